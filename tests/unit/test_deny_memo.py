"""Denials that are remembered: how often the server is spared, and that nobody is wronged by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.coordination.absent import NoRedis
from app.coordination.deny_memo import MOST_S, DenyMemo
from app.coordination.memory_rates import MemoryRates
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.rates import Asked, DecidedBy, Decision, Limit
from tests.support.rate_place import SCRIPTS, Place
from tests.support.redis_servers import Valkey

HOUR = Limit("hour", 2, 3_600_000)
MEMO, SERVER = DecidedBy.MEMO, DecidedBy.SERVER


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000_000

    def __call__(self) -> float:
        return self.us / 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(valkey: Valkey) -> Iterator[Place]:
    with Place.on(valkey) as place:
        yield place


@pytest.fixture
def memo(place: Place, clock: Clock) -> DenyMemo:
    return DenyMemo(place.rates(), clock=clock)


def use_up(memo: DenyMemo, identity: str = "a", limit: Limit = HOUR) -> Decision:
    """Admitted twice, and denied by the server once."""
    decisions = [memo.admit(identity, [limit]) for _ in range(3)]
    assert [(each.admitted, each.by) for each in decisions] == [
        (True, SERVER),
        (True, SERVER),
        (False, SERVER),
    ]
    return decisions[1]


def test_what_was_denied_is_denied_again_without_a_call(
    place: Place, memo: DenyMemo, clock: Clock
) -> None:
    use_up(memo)
    clock.us += int(MOST_S * 1_000_000)
    denied = memo.admit("a", [HOUR])
    assert denied.by is SERVER
    asked_us, ran = clock.us, place.scripts_run()
    for passed_ms in range(0, 1_000, 125):
        clock.us = asked_us + passed_ms * 1_000
        again = memo.admit("a", [HOUR])
        assert (again.admitted, again.by) == (False, MEMO)
        (before,), (told,) = denied.standings, again.standings
        assert told.retry_ms == (before.retry_ms or 0) - passed_ms
        assert told.reset_ms == before.reset_ms - passed_ms
    assert place.scripts_run() == ran
    clock.us = asked_us + int(MOST_S * 1_000_000)
    assert memo.admit("a", [HOUR]).by is SERVER
    assert place.scripts_run() == ran + 1


def test_what_one_identity_was_denied_denies_the_request_of_two(
    place: Place, memo: DenyMemo
) -> None:
    use_up(memo)
    both = [("b", [HOUR]), ("a", [HOUR])]
    assert [each.by for each in memo.admit_all(both)] == [SERVER, SERVER]
    ran = place.scripts_run()
    decisions = memo.admit_all(both)
    assert [(each.admitted, each.by) for each in decisions] == [(True, MEMO), (False, MEMO)]
    assert (place.scripts_run(), place.used("b", "hour")) == (ran, 0)
    memo.refund(decisions[0])  # it took nothing
    assert place.scripts_run() == ran


def test_another_identity_limit_or_cost_is_asked_about(place: Place, memo: DenyMemo) -> None:
    use_up(memo)
    others = [HOUR._replace(amount=3), HOUR._replace(cost=0), HOUR._replace(name="minute")]
    for other in others:
        assert memo.admit("a", [other]).by is SERVER
    assert memo.admit("b", [HOUR]).by is SERVER
    assert place.used("a", "hour") == 3  # the greater amount had room


def test_a_wait_is_told_by_all_limits_or_by_the_server(place: Place, memo: DenyMemo) -> None:
    """One limit is known to deny for 2 s, but another, not asked about yet, for an hour."""
    short, long = Limit("short", 1, 2_000), Limit("long", 1, 3_600_000)
    place.rates().admit("a", [long])
    assert [memo.admit("a", [short]).admitted for _ in range(2)] == [True, False]
    told = memo.admit("a", [short, long])
    assert (told.admitted, told.by) == (False, SERVER)
    assert told.retry_after_s > 2
    again = memo.admit("a", [short, long])
    assert (again.by, again.retry_after_s) == (MEMO, told.retry_after_s)


def test_the_wait_of_one_identity_is_not_told_while_anothers_is_unknown(
    place: Place, memo: DenyMemo
) -> None:
    """As an address that may log in again soon, to an account that it may not."""
    soon, late = Limit("soon", 1, 2_000), Limit("late", 1, 3_600_000)
    place.rates().admit("account", [late])
    assert [memo.admit("address", [soon]).admitted for _ in range(2)] == [True, False]
    both = [("address", [soon]), ("account", [late])]
    assert [each.by for each in memo.admit_all(both)] == [SERVER, SERVER]
    again = memo.admit_all(both)
    assert [each.by for each in again] == [MEMO, MEMO]
    assert max(each.retry_after_s for each in again if not each.admitted) > 2


def test_a_shadow_that_was_exceeded_is_no_denial(memo: DenyMemo) -> None:
    shadow = HOUR._replace(shadow=True)
    decisions = [memo.admit("a", [shadow]) for _ in range(4)]
    assert [(each.admitted, each.by) for each in decisions] == [(True, SERVER)] * 4


@pytest.mark.parametrize("how", ["reset", "refund"])
def test_ones_own_reset_or_refund_is_known_at_once(memo: DenyMemo, how: str) -> None:
    _undo(memo, use_up(memo), how)
    again = memo.admit("a", [HOUR])
    assert (again.admitted, again.by) == (True, SERVER)


@pytest.mark.parametrize("how", ["reset", "refund"])
def test_one_of_another_process_is_missed_for_a_second_at_most(
    place: Place, memo: DenyMemo, clock: Clock, how: str
) -> None:
    taken = use_up(memo)
    _undo(DenyMemo(place.rates(), clock=clock), taken, how)
    clock.us += int(MOST_S * 1_000_000) - 1
    assert memo.admit("a", [HOUR]).by is MEMO
    clock.us += 1
    again = memo.admit("a", [HOUR])
    assert (again.admitted, again.by) == (True, SERVER)


def _undo(memo: DenyMemo, taken: Decision, how: str) -> None:
    if how == "refund":
        memo.refund(taken)
    else:
        assert memo.reset("a", ["hour"]) == 1


def test_what_the_server_said_before_a_reset_is_not_remembered_after_it(
    place: Place, clock: Clock
) -> None:
    """The reset comes while the answer is on its way."""
    rates = Interrupted(place.client(), SCRIPTS)
    memo = DenyMemo(rates, clock=clock)
    for _ in range(2):
        memo.admit("a", [HOUR])
    rates.meanwhile = lambda: memo.reset("a", ["hour"])
    assert not memo.admit("a", [HOUR]).admitted
    rates.meanwhile = lambda: None
    assert memo.admit("a", [HOUR]).admitted


class Interrupted(RedisRates):
    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        decisions = super().admit_all(asked)
        self.meanwhile()
        return decisions


def test_the_one_denied_longest_ago_is_forgotten_first(place: Place, clock: Clock) -> None:
    memo = DenyMemo(place.rates(), most_identities=2, clock=clock)
    for identity in "abc":
        use_up(memo, identity)
    assert [memo.admit(identity, [HOUR]).by for identity in "bca"] == [MEMO, MEMO, SERVER]


def test_what_a_process_decided_for_itself_is_not_remembered() -> None:
    memo = DenyMemo(RedisRates(NoRedis("limiter"), SCRIPTS, on_loss=OnLoss.LOCAL))
    decisions = [memo.admit("a", [HOUR]) for _ in range(4)]
    assert [each.admitted for each in decisions] == [True, True, False, False]
    assert {each.by for each in decisions} == {DecidedBy.PROCESS}


# --- nobody is wronged --------------------------------------------------------------------------


class AsServer(MemoryRates):
    """The server's decisions, under the test's clock. `late_ms`: it tells waits too long."""

    def __init__(self, clock: Clock, late_ms: int = 0) -> None:
        super().__init__(clock_us=lambda: clock.us)
        self._late_ms = late_ms

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        return [
            each._replace(
                by=SERVER,
                standings=tuple(
                    told._replace(retry_ms=told.retry_ms and told.retry_ms + self._late_ms)
                    for told in each.standings
                ),
            )
            for each in super().admit_all(asked)
        ]


PAUSES_US = st.integers(0, 400_000) | st.sampled_from([0, 400, 999, 1_000, 99_600, 499_600])
ARRIVALS = st.lists(st.tuples(PAUSES_US, st.integers(1, 3)), max_size=60)


def _nobody_is_wronged(arrivals: list[tuple[int, int]], late_ms: int = 0) -> int:
    """Every answer is the server's; returns how many it did not have to give."""
    clock, spared = Clock(), 0
    rates = AsServer(clock, late_ms)
    memo = DenyMemo(rates, clock=clock)
    for pause_us, cost in arrivals:
        clock.us += pause_us
        limits = [Limit("half", 4, 500, cost), Limit("second", 5, 1_000, cost)]
        would = rates.admit("a", [limit._replace(probe=True) for limit in limits]).admitted
        decision = memo.admit("a", limits)
        assert decision.admitted == would
        spared += decision.by is MEMO
    return spared


@given(ARRIVALS)
def test_nobody_is_denied_whom_the_server_would_admit(arrivals: list[tuple[int, int]]) -> None:
    _nobody_is_wronged(arrivals)


def test_most_of_a_hurrys_denials_cost_the_server_nothing() -> None:
    assert _nobody_is_wronged([(1_000, 1)] * 2_000) > 1_900


def test_a_wait_that_is_rounded_up_denies_nobody_in_its_last_millisecond() -> None:
    hit_four_times = [(0, 1)] * 4
    assert _nobody_is_wronged([*hit_four_times, (600, 1), (499_400, 1)]) == 0
    assert _nobody_is_wronged([*hit_four_times, (600, 1), (498_000, 1)]) == 1


def test_a_memo_that_forgets_too_late_is_caught() -> None:
    """The control of the three tests above."""

    @settings(max_examples=500, database=None, phases=[Phase.generate], derandomize=True)
    @given(ARRIVALS)
    def late(arrivals: list[tuple[int, int]]) -> None:
        _nobody_is_wronged(arrivals, late_ms=50)

    with pytest.raises(AssertionError):
        late()
