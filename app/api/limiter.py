"""Flask-Limiter as the front of `coordination.rate_limit`: one decision for a whole request.

Flask-Limiter evaluates limits one by one and asks its storage for each. Here, all of them are
decided together first, and the storage answers from the request's memo. So its defaults,
decorators, exemptions and callbacks go on working, at the price of one round trip.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Container, Sequence
from typing import Any

from flask import g, request
from flask_limiter import Limiter
from flask_limiter._limits import RuntimeLimit
from limits.storage import MovingWindowSupport, Storage

from app.coordination.rate_limit import Decision, Limit, Rates, Standing
from app.errors import CoordinationError

SCHEME = "taskflow"


class Memo:
    """What was decided for this request, by Flask-Limiter's key of each limit.

    A limit that nobody counted (Redis was away) is remembered as None, and passes.
    """

    def __init__(self) -> None:
        self.standings: dict[str, Standing | None] = {}
        self.retry_after_s = 0

    def decide(self, rates: Rates, limits: Sequence[tuple[str, Limit]]) -> None:
        """Decide the limits of each identity together; after a denial, ask no further identity."""
        by_identity: dict[str, list[tuple[str, Limit]]] = {}
        for key, limit in limits:
            by_identity.setdefault(split(key)[0], []).append((key, limit))
        admitted = True
        for identity, group in by_identity.items():
            if not admitted:
                self.standings.update((key, None) for key, _ in group)
                continue
            decision = rates.admit(identity, [limit for _, limit in group])
            admitted = decision.admitted
            self._keep([key for key, _ in group], decision)

    def _keep(self, keys: Sequence[str], decision: Decision) -> None:
        standings: Sequence[Standing | None] = decision.standings or [None] * len(keys)
        self.standings.update(zip(keys, standings, strict=True))
        if not decision.admitted:
            self.retry_after_s = decision.retry_after_s


def memo() -> Memo:
    """The current request's memo."""
    if "rate_memo" not in g:
        g.rate_memo = Memo()
    found: Memo = g.rate_memo
    return found


def split(key: str) -> tuple[str, str]:
    """Identity and limit's name out of Flask-Limiter's `LIMITER/<identity>/<scope>/…` key."""
    _, identity, name = key.split("/", 2)
    return identity, name


class OneCallLimiter(Limiter):
    """Decides all limits of a request before Flask-Limiter looks at them one by one.

    `_Limiter__evaluate_limits` is a private hook of version 4.1; a test holds on to it.

    Args:
        never_open: scopes whose limits hold without Redis too, by each process for itself.
    """

    def __init__(
        self, rates: Rates, *, never_open: Container[str] = frozenset(), **options: Any
    ) -> None:
        options["storage_uri"] = f"{SCHEME}://"
        options["storage_options"] = {"rates": rates}
        super().__init__(strategy="moving-window", **options)
        self._rates, self._never_open = rates, never_open

    def _Limiter__evaluate_limits(self, endpoint: str, limits: list[RuntimeLimit]) -> None:  # noqa: N802  the library's name
        applying = [_frozen(each) for each in limits if not (each.is_exempt or each.method_exempt)]
        # A limit that is deducted after the answer is only looked at now, by Flask-Limiter itself.
        at_once = [each for each in applying if not each.deduct_when]
        memo().decide(self._rates, [self._named(endpoint, each) for each in at_once])
        super()._Limiter__evaluate_limits(endpoint, applying)  # type: ignore[misc]  # private

    def _named(self, endpoint: str, each: RuntimeLimit) -> tuple[str, Limit]:
        scope = each.scope_for(endpoint, request.method)
        parts = [each.key_func(), scope]
        if self._key_prefix:
            parts.insert(0, self._key_prefix)
        key = each.limit.key_for(*parts)
        limit = _limit(key, each.limit.amount, each.limit.get_expiry(), each.deduction_amount)
        return key, limit._replace(never_open=scope in self._never_open)


def _frozen(each: RuntimeLimit) -> RuntimeLimit:
    """With key and cost called once: Flask-Limiter must ask for exactly what was decided."""
    if each.scope is not None and each.shared and not callable(each.cost):
        return each
    key, cost = each.key_func(), each.deduction_amount
    return dataclasses.replace(
        each, key_func=lambda: key, cost=cost, exempt_when=None, methods=None
    )


def _limit(key: str, amount: int, window_s: int, cost: int) -> Limit:
    return Limit(split(key)[1], amount, window_s * 1000, cost)


class ScriptStorage(Storage, MovingWindowSupport):
    """What Flask-Limiter asks: answered from the memo, or decided alone where it is not there."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  the library's attribute

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, rates: Rates
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._rates = rates

    @property
    def base_exceptions(self) -> type[Exception]:
        return CoordinationError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether this limit lets the request pass."""
        standing = self._standing(key, limit, expiry, amount)
        return standing is None or not standing.denied

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Start of the window (seconds since the epoch) and hits in it."""
        standing = self._standing(key, limit, expiry, 0)
        if standing is None:
            return time.time(), 0
        return time.time() + standing.reset_ms / 1000 - expiry, limit - standing.remaining

    def check(self) -> bool:
        return True

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("only the moving-window strategy is served")

    def get(self, key: str) -> int:
        raise NotImplementedError("only the moving-window strategy is served")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("only the moving-window strategy is served")

    def reset(self) -> int | None:
        raise NotImplementedError("counts of limits end with their windows")

    def clear(self, key: str) -> None:
        raise NotImplementedError("counts of limits end with their windows")

    def _standing(self, key: str, amount: int, expiry: int, cost: int) -> Standing | None:
        decided = memo().standings
        if key in decided:
            return decided[key]
        decision = self._rates.admit(split(key)[0], [_limit(key, amount, expiry, cost)])
        if not decision.admitted:
            memo().retry_after_s = decision.retry_after_s
        return decision.standings[0] if decision.standings else None
