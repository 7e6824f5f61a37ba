"""Rate limits over a true sliding window: all limits of one identity in one decision.

The decision is `lua/rate_admit.v1.lua`: a coalesced log (exact for limits up to 64) that never
admits more than the limit in any window, whatever the arrivals, in bounded memory. A denied request
is counted by none of its limits. Without any Redis configured, `MemoryRates` keeps exact logs for
one process.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.scripts import Call, ScriptRegistry
from app.errors import CoordinationError

_CUT_OFF = frozenset({"timeout", "budget", "pool"})


class Limit(NamedTuple):
    """`amount` hits in any `window_ms`. `name` tells it from the identity's other limits.

    `cost` is how many hits this request takes; 0 only looks. `never_open`: without Redis it is
    counted by each process for itself, where others let pass.
    """

    name: str
    amount: int
    window_ms: int
    cost: int = 1
    never_open: bool = False


class Standing(NamedTuple):
    """How one limit stands after the decision.

    `reset_ms`: until the oldest hit leaves. `retry_ms`: until the same request would be admitted;
    0 now, None never (it costs more than the limit).
    """

    limit: Limit
    remaining: int
    reset_ms: int
    retry_ms: int | None

    @property
    def denied(self) -> bool:
        return self.retry_ms != 0


class Decision(NamedTuple):
    """`counted` is False where no one decided: Redis was lost and the request let through."""

    admitted: bool
    standings: tuple[Standing, ...]
    at_us: int = 0
    counted: bool = True

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until the same request would be admitted by every limit that denied it."""
        waits = [
            s.retry_ms if s.retry_ms is not None else s.limit.window_ms for s in self.standings
        ]
        return max(1, -(-max(waits, default=0) // 1000))


class Rates(Protocol):
    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        """Decide one request of `identity` by all of `limits` at once."""


class RedisRates:
    """One script call for each decision; without Redis, requests are let through uncounted.

    Two kinds are then counted in this process: limits that must never open, such as that of
    log-ins; and calls that were cut off while Redis itself is there, because whoever overloads this
    process would otherwise switch off his own limit.
    """

    def __init__(self, client: Scripting, scripts: ScriptRegistry) -> None:
        self._client, self._here = client, MemoryRates()
        self._script = scripts["rate_admit.v1"]

    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        try:
            reply = self._client.call(self._call(identity, limits))
        except CoordinationError as error:
            return self._without_redis(identity, limits, error.kind)
        return _decided(limits, reply)

    def _without_redis(self, identity: str, limits: Sequence[Limit], kind: str) -> Decision:
        if kind in _CUT_OFF or any(limit.never_open for limit in limits):
            return self._here.admit(identity, limits)
        return Decision(admitted=True, standings=(), counted=False)

    def _call(self, identity: str, limits: Sequence[Limit]) -> Call:
        args = [arg for limit in limits for arg in (limit.amount, limit.window_ms, limit.cost)]
        return Call(self._script, [keys.rate(identity, limit.name) for limit in limits], args)


def _decided(limits: Sequence[Limit], reply: Sequence[int]) -> Decision:
    standings = tuple(
        Standing(limit, reply[i], reply[i + 1], None if reply[i + 2] < 0 else reply[i + 2])
        for limit, i in zip(limits, range(2, len(reply), 3), strict=True)
    )
    return Decision(bool(reply[0]), standings, at_us=reply[1])


class MemoryRates:
    """The same decisions for one process alone, by exact logs.

    Bounded: the identities that were quiet longest are forgotten beyond `most_identities`.
    """

    def __init__(
        self,
        *,
        most_identities: int = 10_000,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._most, self._clock_us = most_identities, clock_us
        self._logs: OrderedDict[str, dict[str, _Log]] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        with self._lock:
            now = self._clock_us()
            logs = self._logs.setdefault(identity, {})
            self._logs.move_to_end(identity)
            while len(self._logs) > self._most:
                self._logs.popitem(last=False)
            chosen = [logs.setdefault(limit.name, _Log()) for limit in limits]
            for log, limit in zip(chosen, limits, strict=True):
                log.forget(now - limit.window_ms * 1000)
            waits = [log.wait_ms(limit, now) for log, limit in zip(chosen, limits, strict=True)]
            admitted = all(wait == 0 for wait in waits)
            for log, limit in zip(chosen, limits, strict=True):
                if admitted and limit.cost:
                    log.take(now, limit.cost)
            standings = tuple(
                Standing(limit, limit.amount - log.total, log.reset_ms(limit, now), wait)
                for log, limit, wait in zip(chosen, limits, waits, strict=True)
            )
        return Decision(admitted, standings, at_us=now)


class _Log:
    """Hits of one limit, oldest first, as (time in us, cost)."""

    def __init__(self) -> None:
        self.hits: deque[tuple[int, int]] = deque()
        self.total = 0

    def forget(self, until_us: int) -> None:
        while self.hits and self.hits[0][0] <= until_us:
            self.total -= self.hits.popleft()[1]

    def take(self, now_us: int, cost: int) -> None:
        self.hits.append((now_us, cost))
        self.total += cost

    def wait_ms(self, limit: Limit, now_us: int) -> int | None:
        if limit.cost > limit.amount:
            return None
        excess = self.total + limit.cost - limit.amount
        if excess <= 0:
            return 0
        for at_us, cost in self.hits:
            excess -= cost
            if excess <= 0:
                return _ms_until(at_us, limit, now_us)
        return limit.window_ms

    def reset_ms(self, limit: Limit, now_us: int) -> int:
        return _ms_until(self.hits[0][0] if self.hits else now_us, limit, now_us)


def _ms_until(at_us: int, limit: Limit, now_us: int) -> int:
    return -(-(at_us - now_us) // 1000) + limit.window_ms
