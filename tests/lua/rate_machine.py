"""The rate-limit scripts as a state machine, held against exact logs; the clock is the test's own.

Requests of the old and the new release, refunds, resets and steps of the clock come in any order.
Nothing may be admitted that the exact logs would deny, and nothing denied that they would admit
even with every hit held for window/64 longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, Protocol

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.coordination import keys
from app.coordination.rates import Limit
from app.coordination.scripts import Arg, ScriptRegistry

LIMITS = (
    Limit("few", 5, 64_000),
    Limit("most without sharing", 64, 128_000),
    Limit("many", 90, 64_000),
    Limit("exact", 90, 128_000, exact=True),
)
BEGIN_US, OWED_MS = 1_700_000_000_000_000, 3_600_000
WINDOW_US, CELL_US = 64_000_000, 1_000_000
FUTURE = b"what a later release keeps here"
OWN_CLOCK = ("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
IDS = ("rate_admit.v1", "rate_admit.v2", "rate_refund.v1", "rate_reset.v1")
identities = count()

Faults = Mapping[str, Sequence[tuple[str, str]]]
"""By script: what is replaced by what."""


class Commands(Protocol):
    """The server, by plain commands."""

    def do(self, *command: Arg) -> Any: ...


class Rigged:
    """The scripts with the time in their last two arguments, and perhaps with a planted fault."""

    def __init__(self, server: Commands, faults: Faults) -> None:
        self.server = server
        registry = ScriptRegistry.from_folder()
        self._sources = {id_: _planted(registry[id_].source, OWN_CLOCK) for id_ in IDS}
        for id_, each in faults.items():
            self._sources[id_] = _planted(self._sources[id_], *each)

    def run(self, id_: str, names: Sequence[str], args: Sequence[Arg], now_us: int) -> Any:
        clock = divmod(now_us, 1_000_000)
        return self.server.do("EVAL", self._sources[id_], len(names), *names, *args, *clock)

    def total(self, key: str) -> int:
        return int.from_bytes(self.server.do("GETRANGE", key, 0, 3), "big")


def _planted(source: str, *changes: tuple[str, str]) -> str:
    for right, wrong in changes:
        assert source.count(right) == 1, right
        source = source.replace(right, wrong)
    return source


@dataclass
class Hit:
    at: int
    cost: int
    may_have_left: bool = False


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

    def least(self, now: int) -> int:
        """Hits in the window that ends now."""
        since = now - self.window_us
        return sum(hit.cost for hit in self.hits if hit.at > since and not hit.may_have_left)

    def most(self, now: int) -> int:
        """The same with every hit held for as long as may be."""
        return sum(hit.cost for hit in self.hits if hit.at > now - self.longest_us)

    def take(self, now: int, cost: int) -> Hit:
        """What has left by the clock of a decision that counted has left for good."""
        self.hits = [hit for hit in self.hits if hit.at > now - self.longest_us]
        for hit in self.hits:
            hit.may_have_left |= hit.at <= now - self.window_us
        self.hits.append(Hit(now, cost))
        self.newest_us = max(self.newest_us, now)
        return self.hits[-1]


class Asked(NamedTuple):
    number: int
    cost: int
    shadow: bool = False
    probe: bool = False


class Admitted(NamedTuple):
    at: int
    taken: list[tuple[ExactLog, Hit]]


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


class NeverOver(RuleBasedStateMachine):
    rigged: Rigged

    def __init__(self) -> None:
        super().__init__()
        self.identity = f"account:{next(identities)}"
        self.logs = [ExactLog(limit, limit.shares_entries) for limit in LIMITS]
        self.admitted: list[Admitted] = []
        self.now = self.furthest = BEGIN_US
        self.owed_after = 0
        self.future = keys.rate(self.identity, "few").replace("tf:1:", "tf:2:")
        self.rigged.server.do("SET", self.future, FUTURE)

    def key(self, log: ExactLog) -> str:
        return keys.rate(self.identity, log.limit.name)

    @rule(step=st.sampled_from(STEPS_US) | st.integers(1, 2 * WINDOW_US))
    def time_passes(self, step: int) -> None:
        self.now += step
        self.furthest = max(self.furthest, self.now)

    @rule(step=st.sampled_from(STEPS_US))
    def the_clock_steps_back(self, step: int) -> None:
        """By less than a window: what has left for longer does not come back to life."""
        self.now = max(self.now - step, self.furthest - WINDOW_US + 1)

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
        admitted = self.admitted.pop(-1 - min(choice, len(self.admitted) - 1))
        names = [self.key(log) for log, _ in admitted.taken]
        args: list[Arg] = [admitted.at]
        for log, hit in admitted.taken:
            args += (hit.cost, log.limit.window_ms, int(log.limit.shares_entries))
        before = [self.rigged.total(name) for name in names]
        marker = keys.rate_reset(self.identity)
        self.rigged.run("rate_refund.v1", [marker, *names], args, self.now)
        for name, total, (log, hit) in zip(names, before, admitted.taken, strict=True):
            self._check_refund(total - self.rigged.total(name), log, hit)

    @rule(numbers=st.sets(st.integers(0, len(LIMITS) - 1), min_size=1))
    def limits_are_reset(self, numbers: set[int]) -> None:
        logs = [self.logs[number] for number in sorted(numbers)]
        names = [keys.rate_reset(self.identity), *map(self.key, logs)]
        self.rigged.run("rate_reset.v1", names, [OWED_MS], self.now)
        self.owed_after = max(self.owed_after, self.now, *(log.newest_us for log in logs))
        for log in logs:
            assert self.rigged.total(self.key(log)) == 0
            log.hits.clear()

    def teardown(self) -> None:
        assert self.rigged.server.do("GET", self.future) == FUTURE

    def _decide(self, id_: str, asked: list[Asked], args: Sequence[Arg]) -> None:
        logs = [self.logs[each.number] for each in asked]
        passes, at, *told = self.rigged.run(id_, [self.key(log) for log in logs], args, self.now)
        stored = [hit.at for log in logs for hit in log.hits if hit.cost and not hit.may_have_left]
        assert max(self.now, *stored, 0) <= at <= max(self.now, *(log.newest_us for log in logs))
        pairs = list(zip(asked, logs, strict=True))
        judged = [(each, log) for each, log in pairs if not each.shadow]
        within = [log.least(at) + each.cost <= log.limit.amount for each, log in judged]
        without = [log.most(at) + each.cost > log.limit.amount for each, log in judged]
        assert all(within) if passes else any(without)
        taken = []
        for (each, log), i in zip(pairs, range(0, len(told), 3), strict=True):
            remaining, _, retry_ms = told[i : i + 3]
            takes = bool(passes and each.cost and retry_ms == 0 and not each.probe)
            used = log.limit.amount - remaining - each.cost * takes
            assert log.least(at) <= used <= log.most(at)
            self._check_wait(log, each.cost, at, retry_ms)
            if takes:
                taken.append((log, log.take(at, each.cost)))
        if taken:
            self.admitted.append(Admitted(at, taken))

    def _check_wait(self, log: ExactLog, cost: int, at: int, retry_ms: int) -> None:
        """Whoever waits as told is admitted; whoever waits a millisecond less need not be."""
        amount, then = log.limit.amount, at + retry_ms * 1_000
        if retry_ms < 0:
            assert cost > amount
            return
        assert log.least(then) + cost <= amount
        if retry_ms > 0:
            assert log.most(then - 1_000) + cost > amount

    def _check_refund(self, given: int, log: ExactLog, hit: Hit) -> None:
        """Never more than the hit, nor anybody else's; all of it, where the hit is surely there."""
        is_there = any(hit is each for each in log.hits)
        assert 0 <= given <= hit.cost * is_there
        held = is_there and hit.at + log.window_us > max(self.now, log.newest_us)
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

    class Driven(NeverOver):
        rigged = Rigged(server, faults or {})

    """Run the machine: with shrinking, or with planted faults and always the same examples."""
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
