"""Rate limits as operators see them: who has used up what, and forgetting it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from limits import parse

from app.coordination import keys
from app.coordination.client import ScriptClient
from app.coordination.rate_limit import OWED_MS
from app.coordination.scan import keys_like
from app.coordination.scripts import Call, ScriptRegistry
from app.errors import CoordinationError

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Usage:
    """What one identity has used of one limit; `reset_s` is when its oldest hit leaves.

    `identity` may be given to `of` and `reset`; a long one is cut, as `keys.name_of` says.
    """

    identity: str
    limit: str
    used: int
    amount: int
    window_s: int
    reset_s: float

    @property
    def share(self) -> float:
        return self.used / self.amount

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": round(self.share, 4)}


class RateInspection:
    """Looks at the logs of one Redis. Every method raises CoordinationError without an answer."""

    def __init__(self, client: ScriptClient, scripts: ScriptRegistry) -> None:
        self._client = client
        self._admit, self._reset = scripts["rate_admit.v2"], scripts["rate_reset.v1"]

    def of(self, identity: str) -> list[Usage]:
        """Everything that an identity has used, by limit."""
        found = self._usages(sorted(set(keys_like(self._client, keys.rates(identity)))))
        return sorted(found, key=lambda usage: usage.limit)

    def top(self, most: int) -> list[Usage]:
        """Who has used the most of any limit, the fullest first: looks at every log there is."""
        best: list[Usage] = []
        for usage in self._usages(keys_like(self._client, keys.rates())):
            best.append(usage)
            if len(best) > 2 * most + _AT_ONCE:
                best = _fullest(best, most)
        return _fullest(best, most)

    def reset(self, identity: str) -> int:
        """Forget what an identity has used; returns of how many limits."""
        logs = sorted(set(keys_like(self._client, keys.rates(identity))))
        call = Call(self._reset, [keys.rate_reset(identity), *logs], [OWED_MS])
        return int(self._client.call(call))

    def _usages(self, found: Iterable[str]) -> Iterator[Usage]:
        seen = iter(found)
        while chunk := list(islice(seen, _AT_ONCE)):
            asked = [(key, *limit) for key in chunk if (limit := _limit_of(key))]
            calls = [
                Call(self._admit, [key], [amount, window_s * 1000, 0, 0])
                for key, amount, window_s in asked
            ]
            for (key, amount, window_s), said in zip(asked, self._ask(calls), strict=True):
                used, reset_s = amount - said[2], said[3] / 1000
                if used:
                    yield Usage(*keys.rate_of(key), used, amount, window_s, reset_s)

    def _ask(self, calls: Sequence[Call]) -> list[Any]:
        replies = self._client.call_many(calls) if calls else []
        for reply in replies:
            if isinstance(reply, CoordinationError):
                raise reply
        return replies


def _fullest(usages: Iterable[Usage], most: int) -> list[Usage]:
    once = {(usage.identity, usage.limit): usage for usage in usages}  # SCAN may repeat a key
    return sorted(once.values(), key=lambda each: (-each.share, each.identity, each.limit))[:most]


def _limit_of(key: str) -> tuple[int, int] | None:
    """Amount and window (s), which end the limit's name as Flask-Limiter writes it."""
    try:
        amount, multiples, granularity = keys.rate_of(key)[1].split("/")[-3:]
        item = parse(f"{amount} per {multiples} {granularity}")
    except ValueError:
        return None
    return item.amount, item.get_expiry()
