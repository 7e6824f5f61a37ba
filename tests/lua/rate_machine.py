"""The rate-limit scripts as a state machine, held against exact logs; the clock is the test's own.

Requests of the old and the new release, refunds, resets and steps of the clock, of any size and
either way, come in any order. Each limit is held against its own clock, and requests of the old
release against the one clock that it has for all. Nothing may be admitted that the exact logs would
deny, and nothing denied that they would admit even with every hit held for window/64 longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.coordination import keys
from app.coordination.rates import Limit
from app.coordination.scripts import Arg
from tests.lua.rate_rigged import Commands, Faults, Rigged

LIMITS = (
    Limit("few", 5, 64_000),
    Limit("most without sharing", 64, 128_000),
    Limit("many", 90, 64_000),
    Limit("exact", 90, 128_000, exact=True),
)
BEGIN_US, OWED_MS = 1_700_000_000_000_000, 3_600_000
WINDOW_US, CELL_US = 64_000_000, 1_000_000
FUTURE = b"what a later release keeps here"
identities = count()


@dataclass
class Hit:
    at: int
    cost: int


@dataclass
class ExactLog:
    """What a limit has admitted. `merges`: its hits may be held for a cell longer."""

    limit: Limit
    merges: bool
    hits: list[Hit] = field(default_factory=list)
    newest_us: int = 0

    @property
    def window_us(self) -> int:
        return self.limit.window_ms * 1_000

    @property
    def longest_us(self) -> int:
        return self.window_us + self.merges * (self.window_us // 64)

    def clock(self, now: int) -> int:
        """The limit's own: it stands still while the server's is behind the newest hit."""
        return max(now, self.newest_us)

    def least(self, clock: int) -> int:
        """Hits in the window that ends now."""
        return sum(hit.cost for hit in self.hits if hit.at > clock - self.window_us)

    def most(self, clock: int) -> int:
        """The same with every hit held for as long as may be."""
        return sum(hit.cost for hit in self.hits if hit.at > clock - self.longest_us)

    def take(self, clock: int, cost: int) -> Hit:
        self.hits.append(Hit(clock, cost))
        self.newest_us = clock
        return self.hits[-1]

    def forget(self) -> None:
        self.hits.clear()
        self.newest_us = 0


class Told(NamedTuple):
    """What was said of one limit; the wait is of somebody whose clock shows `since` now."""

    remaining: int
    retry_ms: int
    clock: int
    since: int


def read(id_: str, reply: Sequence[int]) -> tuple[bool, list[Told]]:
    """Whether the request passes, and how its limits stand."""
    passes, time_us, *rest = reply
    if id_ == "rate_admit.v1":  # one clock, from which waits are told too
        told = [Told(rest[i], rest[i + 2], time_us, time_us) for i in range(0, len(rest), 3)]
    else:
        told = [
            Told(rest[i], rest[i + 2], time_us + rest[i + 3], time_us)
            for i in range(0, len(rest), 4)
        ]
    return bool(passes), told


class Asked(NamedTuple):
    number: int
    cost: int
    shadow: bool = False
    probe: bool = False


Taken = list[tuple[ExactLog, Hit]]
"""What one request took, and of which limits."""


def asked() -> st.SearchStrategy[list[Asked]]:
    one = st.builds(
        Asked,
        st.integers(0, len(LIMITS) - 1),
        st.sampled_from([0, 1, 1, 1, 2, 3, 5, 30]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from([False, False, False, True]),
    )
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda each: each.number)


STEPS_US = [1, 999, CELL_US // 2, CELL_US, 2 * CELL_US, WINDOW_US // 2]
STEPS_US += [WINDOW_US - CELL_US, WINDOW_US - CELL_US // 2, WINDOW_US - 1, WINDOW_US]
STEPS_US += [2 * WINDOW_US]
STEP = st.sampled_from(STEPS_US) | st.integers(1, WINDOW_US) | st.integers(1, 50 * WINDOW_US)


class NeverOver(RuleBasedStateMachine):
    rigged: Rigged

    def __init__(self) -> None:
        super().__init__()
        self.identity = f"account:{next(identities)}"
        self.logs = [ExactLog(limit, limit.shares_entries) for limit in LIMITS]
        self.admitted: list[Taken] = []
        self.now = BEGIN_US
        self.owed_after = 0
        self.future = keys.rate(self.identity, "few").replace("tf:1:", "tf:2:")
        self.rigged.server.do("SET", self.future, FUTURE)

    def key(self, log: ExactLog) -> str:
        return keys.rate(self.identity, log.limit.name)

    @rule(step=STEP)
    def time_passes(self, step: int) -> None:
        self.now += step

    @rule(step=STEP)
    def the_clock_steps_back(self, step: int) -> None:
        self.now -= step

    @rule(asked=asked(), times=st.integers(1, 4))
    def requests_arrive(self, asked: list[Asked], times: int) -> None:
        for _ in range(times):
            args: list[Arg] = []
            for each in asked:
                limit = LIMITS[each.number]
                mode = limit._replace(shadow=each.shadow, probe=each.probe).mode
                args += (limit.amount, limit.window_ms, each.cost, mode)
            self._decide("rate_admit.v2", asked, args)

    @rule(asked=asked())
    def a_request_arrives_at_the_old_release(self, asked: list[Asked]) -> None:
        asked = [each._replace(shadow=False, probe=False) for each in asked]
        args: list[Arg] = []
        for each in asked:
            limit, log = LIMITS[each.number], self.logs[each.number]
            log.merges |= limit.amount > 64  # it does not know what exact means
            args += (limit.amount, limit.window_ms, each.cost)
        self._decide("rate_admit.v1", asked, args)

    @precondition(lambda self: self.admitted)
    @rule(choice=st.integers(0, 3))
    def an_earlier_request_is_refunded(self, choice: int) -> None:
        """At most once each, as the service does; the newest ones rather than the oldest."""
        taken = self.admitted.pop(-1 - min(choice, len(self.admitted) - 1))
        names = [self.key(log) for log, _ in taken]
        args: list[Arg] = []
        for log, hit in taken:
            args += (hit.at, hit.cost, log.limit.window_ms, int(log.limit.shares_entries))
        before = [self.rigged.total(name) for name in names]
        marker = keys.rate_reset(self.identity)
        self.rigged.run("rate_refund.v1", [marker, *names], args, self.now)
        for name, total, (log, hit) in zip(names, before, taken, strict=True):
            self._check_refund(total - self.rigged.total(name), log, hit)

    @rule(numbers=st.sets(st.integers(0, len(LIMITS) - 1), min_size=1))
    def limits_are_reset(self, numbers: set[int]) -> None:
        logs = [self.logs[number] for number in sorted(numbers)]
        names = [keys.rate_reset(self.identity), *map(self.key, logs)]
        self.rigged.run("rate_reset.v1", names, [OWED_MS], self.now)
        self.owed_after = max(self.owed_after, self.now, *(log.newest_us for log in logs))
        for log in logs:
            assert self.rigged.total(self.key(log)) == 0
            log.forget()

    def teardown(self) -> None:
        assert self.rigged.server.do("GET", self.future) == FUTURE

    def _decide(self, id_: str, asked: list[Asked], args: Sequence[Arg]) -> None:
        logs = [self.logs[each.number] for each in asked]
        reply = self.rigged.run(id_, [self.key(log) for log in logs], args, self.now)
        passes, told = read(id_, reply)
        clocks = [log.clock(self.now) for log in logs]
        if id_ == "rate_admit.v1":
            clocks = [max(clocks)] * len(logs)
        self._check_verdict(passes, asked, clocks)
        taken = []
        for each, log, said, clock in zip(asked, logs, told, clocks, strict=True):
            takes = bool(passes and each.cost and said.retry_ms == 0 and not each.probe)
            used = log.limit.amount - said.remaining - each.cost * takes
            assert log.least(clock) <= used <= log.most(clock)
            assert said.clock == clock
            self._check_wait(log, each.cost, said)
            if takes:
                taken.append((log, log.take(clock, each.cost)))
        if taken:
            self.admitted.append(taken)

    def _check_verdict(self, passes: bool, asked: list[Asked], clocks: list[int]) -> None:
        judged = [
            (self.logs[each.number], each.cost, clock)
            for each, clock in zip(asked, clocks, strict=True)
            if not each.shadow
        ]
        if passes:
            assert all(log.least(at) + cost <= log.limit.amount for log, cost, at in judged)
        else:
            assert any(log.most(at) + cost > log.limit.amount for log, cost, at in judged)

    def _check_wait(self, log: ExactLog, cost: int, said: Told) -> None:
        """Whoever waits as told is admitted; whoever waits a millisecond less need not be."""
        amount, then = log.limit.amount, said.since + said.retry_ms * 1_000
        if said.retry_ms < 0:
            assert cost > amount
            return
        assert log.least(log.clock(then)) + cost <= amount
        if said.retry_ms > 0:
            assert log.most(log.clock(then - 1_000)) + cost > amount

    def _check_refund(self, given: int, log: ExactLog, hit: Hit) -> None:
        """Never more than the hit, nor anybody else's; all of it, where the hit is surely there."""
        is_there = any(hit is each for each in log.hits)
        held = is_there and hit.at + log.window_us > log.clock(self.now)
        assert 0 <= given <= hit.cost * held
        own_entries = log.merges == log.limit.shares_entries
        if held and own_entries and hit.at > self.owed_after:
            assert given == hit.cost
        hit.cost -= given


def drive(
    server: Commands,
    examples: int,
    faults: Faults | None = None,
    steps: int = 30,
) -> None:
    """Run the machine: with shrinking, or with planted faults and always the same examples."""

    class Driven(NeverOver):
        rigged = Rigged(server, faults or {})

    phases = [Phase.generate] if faults else [Phase.generate, Phase.shrink]
    run_state_machine_as_test(
        Driven,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=bool(faults),
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )
