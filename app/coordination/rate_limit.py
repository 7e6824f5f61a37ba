"""Rate limits over a true sliding window: all limits of one identity in one decision.

The decision is `lua/rate_admit.v2.lua`: a coalesced log (exact for limits up to 64) that never
admits more than the limit in any window, whatever the arrivals, in bounded memory. A denied request
is counted by none of its limits. Source: the sliding log, with hits of the same window/64 cell kept
as one entry at the newest one's time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.memory_rates import MemoryRates
from app.coordination.rates import Asked, DecidedBy, Decision, Limit, Standing
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.errors import CoordinationError, LimitsUnavailable

OWED_MS = 3_600_000  # how long after its decision a refund may still come
_CUT_OFF = frozenset({"timeout", "budget", "pool"})


class OnLoss(StrEnum):
    """What becomes of a request that Redis cannot decide.

    `OPEN`: it passes, uncounted. `LOCAL`: this process decides by its share of each limit, which is
    divided among the processes known to be alive. `CLOSED`: 503.
    """

    OPEN = "open"
    LOCAL = "local"
    CLOSED = "closed"


class RedisRates:
    """One pipeline for each request.

    Two kinds of requests are decided by this process's share whatever `on_loss` says: those with a
    limit that never opens, such as that of log-ins; and those that were cut off while Redis itself
    is there, because whoever overloads this process would otherwise switch off his own limit.

    Args:
        fleet_size: how many processes are known to be alive, this one included.
    """

    def __init__(
        self,
        client: Scripting,
        scripts: ScriptRegistry,
        *,
        on_loss: OnLoss = OnLoss.OPEN,
        fleet_size: Callable[[], int] = lambda: 1,
    ) -> None:
        self._client, self._on_loss, self._fleet_size = client, on_loss, fleet_size
        self._here = MemoryRates()
        self._admit = scripts["rate_admit.v2"]
        self._refund = scripts["rate_refund.v1"]
        self._reset = scripts["rate_reset.v1"]

    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        return self.admit_all([(identity, limits)])[0]

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        try:
            replies = self._client.call_many([self._call(*each) for each in asked])
        except CoordinationError as error:
            return self._without_redis(asked, error)
        errors = [reply for reply in replies if isinstance(reply, CoordinationError)]
        if errors:
            self._give_back(_decisions(asked, replies))
            return self._without_redis(asked, errors[0])
        decisions = _decisions(asked, replies)
        if not all(each.admitted for each in decisions):
            decisions = self._give_back(decisions)
        return decisions

    def refund(self, decision: Decision) -> None:
        """As `Rates.refund`.

        A log that was lost meanwhile (evicted, or by a failover) leaves no note as a reset does,
        and the refund may take somebody else's hits of the same cell. In any window the lost log
        and the new one still admit no more than the limit each, not counting what was refunded: no
        more than the loss alone lets through.
        """
        if decision.by is DecidedBy.PROCESS:
            self._here.refund(_shared_out(decision, self._fleet_size()))
        elif decision.by is DecidedBy.SERVER and decision.owed:
            with contextlib.suppress(CoordinationError):
                self._client.call(self._refund_of(decision))

    def reset(self, identity: str, names: Sequence[str]) -> int:
        """As `Rates.reset`.

        Raises:
            CoordinationError: Redis gave no answer; nothing may be forgotten yet.
        """
        self._here.reset(identity, names)
        logs = [keys.rate(identity, name) for name in names]
        call = Call(self._reset, [keys.rate_reset(identity), *logs], [OWED_MS])
        return int(self._client.call(call))

    def _give_back(self, decisions: Sequence[Decision]) -> list[Decision]:
        """Another identity of the same request was denied or not decided: this goes back."""
        owed = [each for each in decisions if each.owed]
        if owed:
            with contextlib.suppress(CoordinationError):
                self._client.call_many([self._refund_of(each) for each in owed])
        return [_untaken(each) if each.owed else each for each in decisions]

    def _without_redis(self, asked: Sequence[Asked], error: CoordinationError) -> list[Decision]:
        limits = [limit for _, of_identity in asked for limit in of_identity]
        by_share = (
            self._on_loss is OnLoss.LOCAL
            or error.kind in _CUT_OFF
            or any(limit.never_open for limit in limits)
        )
        if by_share:
            return self._by_share(asked)
        if self._on_loss is OnLoss.CLOSED:
            raise LimitsUnavailable("Rate limits cannot be decided now.") from error
        return [Decision(identity, True, (), by=DecidedBy.NOBODY) for identity, _ in asked]

    def _by_share(self, asked: Sequence[Asked]) -> list[Decision]:
        size = self._fleet_size()
        shares = [
            (identity, [_share(limit, size) for limit in limits]) for identity, limits in asked
        ]
        decisions = self._here.admit_all(shares)
        return [
            each._replace(
                standings=tuple(
                    standing._replace(limit=limit)
                    for standing, limit in zip(each.standings, limits, strict=True)
                )
            )
            for each, (_, limits) in zip(decisions, asked, strict=True)
        ]

    def _call(self, identity: str, limits: Sequence[Limit]) -> Call:
        args: list[Arg] = []
        for limit in limits:
            args += (limit.amount, limit.window_ms, limit.cost, limit.mode)
        return Call(self._admit, [keys.rate(identity, limit.name) for limit in limits], args)

    def _refund_of(self, decision: Decision) -> Call:
        identity, args = decision.identity, list[Arg]()
        for each in decision.owed:
            limit = each.limit
            args += (each.at_us, limit.cost, limit.window_ms, int(limit.shares_entries))
        logs = [keys.rate(identity, limit.name) for limit in decision.taken]
        return Call(self._refund, [keys.rate_reset(identity), *logs], args)


def _decisions(asked: Sequence[Asked], replies: Sequence[Any]) -> list[Decision]:
    pairs = zip(asked, replies, strict=True)
    return [
        _decided(identity, limits, reply)
        for (identity, limits), reply in pairs
        if not isinstance(reply, CoordinationError)
    ]


def _decided(identity: str, limits: Sequence[Limit], reply: Sequence[int]) -> Decision:
    admitted, time_us, *told = reply
    standings = []
    for limit, i in zip(limits, range(0, len(told), 4), strict=True):
        remaining, reset_ms, retry_ms, ahead_us = told[i : i + 4]
        wait_ms = None if retry_ms < 0 else retry_ms
        standings.append(Standing(limit, remaining, reset_ms, wait_ms, time_us + ahead_us))
    return Decision(identity, bool(admitted), tuple(standings))


def _untaken(decision: Decision) -> Decision:
    """The decision as it stands once its hits were given back."""
    owed = decision.owed
    standings = tuple(
        each._replace(remaining=each.remaining + each.limit.cost) if each in owed else each
        for each in decision.standings
    )
    return decision._replace(standings=standings, untaken=True)


def _share(limit: Limit, size: int) -> Limit:
    """This process's part of a limit; never less than what one request takes."""
    if limit.cost > limit.amount:
        return limit
    return limit._replace(amount=max(limit.amount // max(size, 1), limit.cost, 1))


def _shared_out(decision: Decision, size: int) -> Decision:
    standings = (each._replace(limit=_share(each.limit, size)) for each in decision.standings)
    return decision._replace(standings=tuple(standings))
