"""Rate limits of one process alone, by exact logs: without a Redis, and in place of a lost one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from app.coordination.rates import Asked, DecidedBy, Decision, Limit, Standing


class MemoryRates:
    """The decisions of `RedisRates`, made here.

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
        return self.admit_all([(identity, limits)])[0]

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        with self._lock:
            now = self._clock_us()
            tries = [
                _Try(identity, limits, self._chosen(identity, limits, now), now)
                for identity, limits in asked
            ]
            if all(each.admitted for each in tries):
                for each in tries:
                    self._keep(each)
                return [each.decision() for each in tries]
            return [each.decision()._replace(untaken=True) for each in tries]

    def refund(self, decision: Decision) -> None:
        with self._lock:
            logs = self._logs.get(decision.identity, {})
            for each in decision.owed:
                if each.limit.name in logs:
                    logs[each.limit.name].give_back(each.at_us, each.limit.cost)

    def reset(self, identity: str, names: Sequence[str]) -> int:
        with self._lock:
            logs = self._logs.get(identity, {})
            return sum(bool(logs.pop(name, _Log()).hits) for name in names)

    def names(self, identity: str) -> list[str]:
        with self._lock:
            return sorted(self._logs.get(identity, {}))

    def identities(self) -> list[str]:
        with self._lock:
            return sorted(self._logs)

    def _chosen(self, identity: str, limits: Sequence[Limit], now: int) -> list[_Log]:
        logs = self._logs.get(identity, {})
        chosen = [logs.get(limit.name) or _Log() for limit in limits]
        for log, limit in zip(chosen, limits, strict=True):
            log.forget(now - limit.window_ms * 1000)
        return chosen

    def _keep(self, tried: _Try) -> None:
        """Only who took something has a place: whoever is denied must not drive others out."""
        taken = tried.take()
        if not taken:
            return
        self._logs.setdefault(tried.identity, {}).update(taken)
        self._logs.move_to_end(tried.identity)
        while len(self._logs) > self._most:
            self._logs.popitem(last=False)


class _Try:
    """One identity's limits, looked at by one clock."""

    def __init__(
        self, identity: str, limits: Sequence[Limit], logs: Sequence[_Log], now_us: int
    ) -> None:
        self.identity, self._now_us = identity, now_us
        self._pairs = list(zip(limits, logs, strict=True))
        self._waits = [log.wait_ms(limit, now_us) for limit, log in self._pairs]
        self.admitted = all(
            wait == 0 or limit.shadow for wait, limit in zip(self._waits, limits, strict=True)
        )

    def take(self) -> dict[str, _Log]:
        """Count it; returns the logs that did, by their limits' names."""
        taken = {}
        for wait, (limit, log) in zip(self._waits, self._pairs, strict=True):
            if wait == 0 and limit.cost > 0 and not limit.probe:
                log.take(self._now_us, limit.cost)
                taken[limit.name] = log
        return taken

    def decision(self) -> Decision:
        now = self._now_us
        standings = tuple(
            Standing(limit, limit.amount - log.total, log.reset_ms(limit, now), wait, now)
            for wait, (limit, log) in zip(self._waits, self._pairs, strict=True)
        )
        return Decision(self.identity, self.admitted, standings, by=DecidedBy.PROCESS)


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

    def give_back(self, at_us: int, cost: int) -> None:
        if (at_us, cost) in self.hits:
            self.hits.remove((at_us, cost))
            self.total -= cost

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
