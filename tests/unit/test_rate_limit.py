"""One process's own limits, alone and in place of a lost Redis; and the words of a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.coordination import failures
from app.coordination.absent import NoRedis
from app.coordination.memory_rates import MemoryRates
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.rates import DecidedBy, Decision, Limit, Standing
from app.coordination.scripts import Call, ScriptRegistry
from app.errors import LimitsUnavailable

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


def test_whoever_is_denied_drives_nobody_out_of_memory() -> None:
    """As without Redis, where somebody tries log-ins under ever new names."""
    memory = MemoryRates(most_identities=10)
    one = Limit("minute", 1, 60_000)
    assert memory.admit("victim", [one]).admitted
    assert memory.admit("address", [one]).admitted
    for number in range(100):
        both = memory.admit_all([("address", [one]), (f"login:{number}", [one])])
        assert [each.admitted for each in both] == [False, True]
    assert not memory.admit("victim", [one]).admitted


def test_a_cost_below_zero_takes_nothing() -> None:
    memory, two = MemoryRates(), Limit("minute", 2, 60_000)
    memory.admit("a", [two._replace(cost=-3)])
    assert [memory.admit("a", [two]).admitted for _ in range(3)] == [True, True, False]


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


@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 4), st.booleans()), max_size=60))
def test_what_was_given_back_is_free_again_and_nothing_else(
    arrivals: list[tuple[int, int, bool]],
) -> None:
    clock, taken = Clock(), list[tuple[int, int, Decision]]()
    rates = MemoryRates(clock_us=clock)
    for pause_us, cost, refunds in arrivals:
        clock.us += pause_us
        if taken and refunds:
            rates.refund(taken.pop()[2])
        room = 5 - sum(cost for at, cost, _ in taken if at > clock.us - 1_000_000)
        decision = rates.admit("a", [Limit("second", 5, 1_000, cost)])
        assert decision.admitted == (cost <= room)
        if decision.admitted:
            taken.append((clock.us, cost, decision))


def test_what_one_identity_denies_is_counted_by_none() -> None:
    rates = MemoryRates(clock_us=Clock())
    for _ in range(3):
        rates.admit("b", [MINUTE])
    for asked in ([("a", [HOUR]), ("b", [MINUTE])], [("b", [MINUTE]), ("a", [HOUR])]):
        decisions = rates.admit_all(asked)
        assert {each.identity: each.admitted for each in decisions} == {"a": True, "b": False}
    assert rates.admit("a", [HOUR]).standings[0].remaining == 99


def test_what_was_not_taken_is_not_given_back() -> None:
    """Another request of the same microsecond has taken it."""
    rates = MemoryRates(clock_us=Clock())
    for _ in range(3):
        rates.admit("b", [MINUTE])
    untaken, _ = rates.admit_all([("a", [HOUR]), ("b", [MINUTE])])
    rates.admit("a", [HOUR])
    rates.refund(untaken)
    assert rates.admit("a", [HOUR._replace(cost=0)]).standings[0].remaining == 99


def test_a_reset_forgets_the_named_limits_and_their_refunds_take_nothing() -> None:
    clock = Clock()
    rates = MemoryRates(clock_us=clock)
    before = rates.admit("a", [MINUTE, HOUR])
    assert rates.reset("a", ["minute", "never used"]) == 1
    clock.us += 1
    rates.admit("a", [MINUTE, HOUR])
    rates.refund(before)
    looked = rates.admit("a", [MINUTE._replace(cost=0), HOUR._replace(cost=0)])
    assert [each.remaining for each in looked.standings] == [2, 99]


def test_a_shadow_denies_nothing_and_takes_nothing_where_it_would_have() -> None:
    rates = MemoryRates()
    decisions = [rates.admit("a", [MINUTE._replace(shadow=True), HOUR]) for _ in range(5)]
    assert [each.admitted for each in decisions] == [True] * 5
    assert [each.standings[0].exceeded for each in decisions] == [False] * 3 + [True] * 2
    assert [each.remaining for each in decisions[-1].standings] == [0, 95]


def test_a_probe_denies_as_if_it_took_and_takes_nothing() -> None:
    rates, probe = MemoryRates(), MINUTE._replace(probe=True)
    assert [rates.admit("a", [probe, HOUR]).admitted for _ in range(5)] == [True] * 5
    rates.admit("a", [MINUTE._replace(cost=3)])
    denied = rates.admit("a", [probe, HOUR])
    assert not denied.admitted
    assert [each.remaining for each in denied.standings] == [0, 95]


# --- without Redis ------------------------------------------------------------------------------


class CutOff(NoRedis):
    """A Redis that is there, and whose answers come too late."""

    def call_many(self, calls: Sequence[Call]) -> NoReturn:  # noqa: ARG002  the overridden one's
        raise failures.of_kind("timeout", purpose=self.purpose, detail="too late")


def without_redis(
    on_loss: OnLoss = OnLoss.OPEN, *, size: int = 1, client: NoRedis | None = None
) -> RedisRates:
    client = client or NoRedis("limiter")
    scripts = ScriptRegistry.from_folder()
    return RedisRates(client, scripts, on_loss=on_loss, fleet_size=lambda: size)


def test_open_lets_requests_through_and_says_that_nobody_counted() -> None:
    rates = without_redis(OnLoss.OPEN)
    assert rates.admit("a", [MINUTE]) == Decision("a", True, (), by=DecidedBy.NOBODY)
    decisions = rates.admit_all([("a", [MINUTE]), ("b", [HOUR])])
    assert [(each.identity, each.by) for each in decisions] == [
        ("a", DecidedBy.NOBODY),
        ("b", DecidedBy.NOBODY),
    ]


def test_closed_says_that_limits_cannot_be_decided() -> None:
    with pytest.raises(LimitsUnavailable):
        without_redis(OnLoss.CLOSED).admit("a", [MINUTE])


@pytest.mark.parametrize(
    ("amount", "size", "cost", "admitted"),
    [
        (12, 1, 1, 12),
        (12, 4, 1, 3),
        (12, 5, 1, 2),
        (3, 50, 1, 1),  # never nothing
        (12, 4, 5, 1),  # never less than what one request takes
        (12, 4, 13, 0),  # which no share may exceed
        (12, 0, 1, 12),
    ],
)
def test_local_gives_each_process_its_share(
    amount: int, size: int, cost: int, admitted: int
) -> None:
    rates, limit = without_redis(OnLoss.LOCAL, size=size), Limit("minute", amount, 60_000, cost)
    decisions = [rates.admit("a", [limit]) for _ in range(amount + 1)]
    assert sum(each.admitted for each in decisions) == admitted
    assert {each.by for each in decisions} == {DecidedBy.PROCESS}
    assert {each.standings[0].limit for each in decisions} == {limit}  # what is told is the whole


def test_a_refund_of_a_share_is_of_this_processs_own() -> None:
    rates, limit = without_redis(OnLoss.LOCAL, size=4), Limit("minute", 12, 60_000, cost=3)
    first = rates.admit("a", [limit])
    assert not rates.admit("a", [limit]).admitted
    rates.refund(first)
    assert rates.admit("a", [limit]).admitted


@pytest.mark.parametrize("on_loss", OnLoss)
def test_a_limit_that_never_opens_holds_by_share_whatever_the_policy(on_loss: OnLoss) -> None:
    rates, log_in = without_redis(on_loss, size=2), Limit("login", 4, 60_000, never_open=True)
    asked = [("address", [log_in]), ("account", [MINUTE._replace(amount=100)])]
    decisions = [rates.admit_all(asked) for _ in range(3)]
    assert [all(each.admitted for each in pair) for pair in decisions] == [True, True, False]
    assert decisions[-1][1].standings[0].remaining == 50 - 2  # the other one was not counted


@pytest.mark.parametrize("on_loss", OnLoss)
def test_whoever_overloads_a_process_does_not_switch_off_his_own_limit(on_loss: OnLoss) -> None:
    rates = without_redis(on_loss, client=CutOff("limiter"))
    assert [rates.admit("a", [MINUTE]).admitted for _ in range(4)] == [True, True, True, False]


# --- the words of a decision --------------------------------------------------------------------


def test_the_wait_is_the_longest_of_the_limits_that_denied_in_whole_seconds() -> None:
    standings = (Standing(MINUTE, 0, 10, 1_001), Standing(HOUR, 5, 10, 0))
    assert Decision("a", False, standings).retry_after_s == 2
