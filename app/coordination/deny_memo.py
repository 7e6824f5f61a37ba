"""What was denied a moment ago is denied again without asking.

A client that goes on calling while its limit is used up costs Redis nothing. The server said when
the same request would be admitted, and hits only leave earlier by a refund, a reset, or a change of
the limit: such a thing done in this process forgets at once, one of another process is missed for
`MOST_S` at the longest.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.coordination.rates import Asked, DecidedBy, Decision, Limit, Rates, Standing

MOST_S = 1.0


class _Told(NamedTuple):
    """What the server said of a limit; when it was asked and when it was heard, monotonic seconds.

    It said so in between: it is asked again by the earlier, and others are told to wait by the
    later.
    """

    standing: Standing
    asked_s: float
    heard_s: float


class DenyMemo:
    """Rates that remember denials, by identity, limit and cost.

    Args:
        most_identities: remembered at most; the one denied longest ago is forgotten first.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        rates: Rates,
        *,
        most_identities: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates, self._most, self._clock = rates, most_identities, clock
        self._told: OrderedDict[str, dict[Limit, _Told]] = OrderedDict()
        self._forgot_s = -1.0
        self._lock = threading.Lock()

    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        return self.admit_all([(identity, limits)])[0]

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        now = self._clock()
        if self._told:
            remembered = [self._remembered(identity, limits, now) for identity, limits in asked]
            known = [decision for decision in remembered if decision]
            if len(known) == len(asked) and not all(each.admitted for each in known):
                return known
        decisions = self._rates.admit_all(asked)
        if not all(each.admitted for each in decisions):
            for decision in decisions:
                if decision.by is DecidedBy.SERVER:
                    self._remember(decision, now)
        return decisions

    def refund(self, decision: Decision) -> None:
        self._rates.refund(decision)
        self.forget(decision.identity)

    def reset(self, identity: str, names: Sequence[str]) -> int:
        try:
            return self._rates.reset(identity, names)
        finally:
            self.forget(identity)

    def forget(self, identity: str) -> None:
        """Ask the server again about this identity."""
        with self._lock:
            self._forgot_s = self._clock()
            self._told.pop(identity, None)

    def _remembered(self, identity: str, limits: Sequence[Limit], now: float) -> Decision | None:
        told = self._told.get(identity)
        if told is None:
            return None
        found = [_aged(told[limit], now) for limit in limits if limit in told]
        standings = tuple(standing for standing in found if standing)
        if len(standings) < len(limits):
            return None  # how long to wait is told by all limits together, or not truly
        admitted = not any(standing.denied for standing in standings)
        return Decision(identity, admitted, standings, by=DecidedBy.MEMO)

    def _remember(self, decision: Decision, asked_s: float) -> None:
        heard_s = self._clock()
        told = {each.limit: _Told(each, asked_s, heard_s) for each in decision.standings}
        with self._lock:
            if asked_s <= self._forgot_s:
                return  # said before what made us forget
            self._told[decision.identity] = told
            self._told.move_to_end(decision.identity)
            while len(self._told) > self._most:
                self._told.popitem(last=False)


def _aged(told: _Told, now: float) -> Standing | None:
    """The standing by now; None once the server must be asked again."""
    passed_ms = int((now - told.asked_s) * 1000)
    standing, retry_ms = told.standing, told.standing.retry_ms
    # A wait is told in whole milliseconds, rounded up: the last one may be over already.
    if passed_ms >= MOST_S * 1000 or (retry_ms and retry_ms - 1 <= passed_ms):
        return None
    heard_ms = int((now - told.heard_s) * 1000)
    left_ms = max(1, retry_ms - heard_ms) if retry_ms else retry_ms
    return standing._replace(retry_ms=left_ms, reset_ms=max(0, standing.reset_ms - heard_ms))
