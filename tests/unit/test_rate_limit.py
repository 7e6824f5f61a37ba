"""One process's own limits, under a clock of the test's own; and the words of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from hypothesis import given
from hypothesis import strategies as st

from app.coordination import failures
from app.coordination.absent import NoRedis
from app.coordination.memory_rates import MemoryRates
from app.coordination.rate_limit import RedisRates
from app.coordination.rates import DecidedBy, Decision, Limit, Standing
from app.coordination.scripts import Call, ScriptRegistry

MINUTE = Limit("minute", 3, 60_000)
HOUR = Limit("hour", 100, 3_600_000)


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000_000

    def __call__(self) -> int:
        return self.us


def test_the_limit_is_admitted_and_not_one_more() -> None:
    rates = MemoryRates()
    assert [rates.admit("a", [MINUTE]).admitted for _ in range(4)] == [True, True, True, False]
    assert rates.admit("b", [MINUTE]).admitted


def test_a_denied_request_is_counted_by_no_limit() -> None:
    rates = MemoryRates()
    for _ in range(10):
        denied = rates.admit("a", [MINUTE, HOUR])
    assert [each.remaining for each in denied.standings] == [0, 97]


def test_whoever_waits_as_told_is_admitted_and_not_a_millisecond_earlier() -> None:
    clock = Clock()
    rates = MemoryRates(clock_us=clock)
    for _ in range(3):
        rates.admit("a", [MINUTE])
        clock.us += 1_000_000
    wait_ms = rates.admit("a", [MINUTE]).standings[0].retry_ms
    assert wait_ms == 57_000
    clock.us += (wait_ms - 1) * 1_000
    assert not rates.admit("a", [MINUTE]).admitted
    clock.us += 1_000
    assert rates.admit("a", [MINUTE]).admitted


def test_a_cost_above_the_limit_is_never_admitted() -> None:
    decision = MemoryRates().admit("a", [Limit("minute", 3, 60_000, cost=4)])
    assert (decision.admitted, decision.standings[0].retry_ms) == (False, None)
    assert decision.retry_after_s == 60


def test_the_identities_remembered_are_bounded() -> None:
    rates = MemoryRates(most_identities=2)
    for identity in "abc":
        rates.admit(identity, [MINUTE])
    assert rates.admit("a", [MINUTE]).standings[0].remaining == 2
    assert rates.admit("c", [MINUTE]).standings[0].remaining == 1


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 4)), max_size=60))
def test_never_more_than_the_limit_in_any_window(arrivals: list[tuple[int, int]]) -> None:
    clock, taken = Clock(), list[tuple[int, int]]()
    rates = MemoryRates(clock_us=clock)
    for pause_us, cost in arrivals:
        clock.us += pause_us
        if rates.admit("a", [Limit("second", 5, 1_000, cost)]).admitted:
            taken.append((clock.us, cost))
    for end, _ in taken:
        assert sum(cost for at, cost in taken if end - 1_000_000 < at <= end) <= 5


def test_without_redis_requests_are_let_through_and_said_to_be_uncounted() -> None:
    rates = RedisRates(NoRedis("limiter"), ScriptRegistry.from_folder())
    assert rates.admit("a", [MINUTE]) == Decision("a", True, (), by=DecidedBy.NOBODY)


class CutOff(NoRedis):
    """A Redis that is there, and whose answers come too late."""

    def call_many(self, calls: Sequence[Call]) -> NoReturn:  # noqa: ARG002  the overridden one's
        raise failures.of_kind("timeout", purpose=self.purpose, detail="too late")


def test_whoever_overloads_a_process_does_not_switch_off_his_own_limit() -> None:
    rates = RedisRates(CutOff("limiter"), ScriptRegistry.from_folder())
    assert [rates.admit("a", [MINUTE]).admitted for _ in range(4)] == [True, True, True, False]


def test_the_wait_is_the_longest_of_the_limits_that_denied_in_whole_seconds() -> None:
    standings = (Standing(MINUTE, 0, 10, 1_001), Standing(HOUR, 5, 10, 0))
    assert Decision("a", False, standings).retry_after_s == 2
