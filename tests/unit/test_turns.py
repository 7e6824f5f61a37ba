"""Rule 6 as a function: which slot is run, and which are passed over."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.scheduler.schedules import Cron, Every
from app.scheduler.turns import MOST_MISSED, Missed, Standing, Turn, turn

HOUR = 3_600
T = 472_222 * HOUR  # a slot
DAY = 86_400


def due(
    policy: Missed, standing: Standing, now_s: float, *, grace_s: int = DAY, period_s: int = HOUR
) -> Turn | None:
    return turn(Every(period_s), policy, grace_s=grace_s, standing=standing, now_s=now_s)


@pytest.mark.parametrize("policy", Missed)
def test_a_slot_that_is_over_leaves_nothing_to_do_until_the_next(policy: Missed) -> None:
    over = Standing(T)
    assert due(policy, over, T + HOUR - 1) is None
    assert due(policy, over, T + HOUR) == Turn(T + HOUR)


@pytest.mark.parametrize("policy", Missed)
def test_a_slot_left_open_is_taken_up(policy: Missed) -> None:
    assert due(policy, Standing(T, is_open=True), T + HOUR - 1) == Turn(T)


@pytest.mark.parametrize("policy", Missed)
def test_a_job_never_seen_begins_with_the_latest_slot_and_has_missed_nothing(
    policy: Missed,
) -> None:
    assert due(policy, Standing(), T + 1) == Turn(T)


def test_latest_runs_the_newest_and_passes_the_others_over() -> None:
    now = T + 3 * HOUR + 5
    assert due(Missed.LATEST, Standing(T), now) == Turn(T + 3 * HOUR, (T + HOUR, T + 2 * HOUR))
    assert due(Missed.LATEST, Standing(T, is_open=True), T + HOUR) == Turn(T + HOUR)


def test_all_runs_each_the_oldest_first_and_the_one_left_open_before_them() -> None:
    now = T + 3 * HOUR
    assert due(Missed.ALL, Standing(T, is_open=True), now) == Turn(T)
    assert due(Missed.ALL, Standing(T), now) == Turn(T + HOUR)
    assert due(Missed.ALL, Standing(T + HOUR), now) == Turn(T + 2 * HOUR)
    assert due(Missed.ALL, Standing(T + 2 * HOUR), now) == Turn(T + 3 * HOUR)


def test_skip_runs_none_that_is_late_and_the_next_that_is_on_time() -> None:
    assert due(Missed.SKIP, Standing(T), T + HOUR + 600) == Turn(None, (T + HOUR,))
    assert due(Missed.SKIP, Standing(T), T + 2 * HOUR + 5) == Turn(T + 2 * HOUR, (T + HOUR,))


def test_a_slot_older_than_the_grace_is_never_begun() -> None:
    now = T + 3 * HOUR + 600
    passed = (T + HOUR, T + 2 * HOUR, T + 3 * HOUR)
    assert due(Missed.LATEST, Standing(T), now, grace_s=60) == Turn(None, passed)
    assert due(Missed.ALL, Standing(T), now, grace_s=60) == Turn(None, passed)
    assert due(Missed.ALL, Standing(T), now, grace_s=HOUR + 600) == Turn(T + 2 * HOUR, (T + HOUR,))


def test_a_slot_left_open_is_taken_up_however_old_it_is() -> None:
    assert due(Missed.LATEST, Standing(T, is_open=True), T + 3_000, grace_s=1) == Turn(T)


def test_a_very_long_row_of_missed_slots_is_told_from_its_new_end() -> None:
    found = due(Missed.LATEST, Standing(T), T + DAY, period_s=1)
    assert found is not None
    assert found.slot == T + DAY
    assert len(found.missed) == MOST_MISSED
    assert found.missed[-1] == T + DAY - 1


def test_all_begins_with_the_oldest_within_the_grace_however_many_there_are() -> None:
    found = due(Missed.ALL, Standing(T), T + 5_000, period_s=1)
    assert found == Turn(T + 1)
    assert due(Missed.ALL, Standing(T), T + 5_000, grace_s=2_000, period_s=1) == Turn(
        T + 3_000, tuple(range(T + 2_000, T + 3_000))
    )


@pytest.mark.parametrize("offset_s", range(0, 5_700, 900))
@pytest.mark.parametrize(
    ("expression", "zone", "day"),
    [("30 2 * * *", "Europe/Berlin", 25), ("30 */2 * * *", "Australia/Lord_Howe", 5)],
)
def test_no_slot_is_hidden_while_the_clocks_are_set_back(
    expression: str, zone: str, day: int, offset_s: int
) -> None:
    """Looked at every 95 minutes through two days, each slot is run once."""
    schedule = Cron(expression, zone)
    begin = int(datetime(2026, 10 if day == 25 else 4, day - 1, tzinfo=UTC).timestamp())
    standing, run = Standing(schedule.latest(begin)), list[int]()
    for now in range(begin + offset_s, begin + 2 * DAY, 5_700):
        found = turn(schedule, Missed.LATEST, grace_s=DAY, standing=standing, now_s=now)
        if found is not None and found.slot is not None:
            assert found.missed == ()
            run.append(found.slot)
            standing = Standing(found.slot)
    slot, expected = schedule.after(schedule.latest(begin)), list[int]()
    while slot < begin + 2 * DAY:
        expected.append(slot)
        slot = schedule.after(slot)
    assert run == [slot for slot in expected if slot <= now]


@given(
    policy=st.sampled_from(Missed),
    grace_s=st.integers(1, 5 * HOUR),
    behind=st.integers(0, 20),
    is_open=st.booleans(),
    seconds=st.integers(0, HOUR - 1),
)
def test_turn_after_turn_every_slot_is_run_or_missed_exactly_once(
    policy: Missed, grace_s: int, behind: int, is_open: bool, seconds: int
) -> None:
    now = T + behind * HOUR + seconds
    standing, run, missed = Standing(T, is_open), list[int](), list[int]()
    while (found := due(policy, standing, now, grace_s=grace_s)) is not None:
        missed += found.missed
        run += [] if found.slot is None else [found.slot]
        standing = Standing(found.slot or found.missed[-1])
    abandoned = [T] if is_open and T not in run else []
    expected = range(T if is_open else T + HOUR, T + behind * HOUR + 1, HOUR)
    assert sorted(run + missed + abandoned) == list(expected)
    assert run == sorted(run)
    assert policy is Missed.ALL or len(run) <= 1


def test_a_new_job_has_missed_nothing_whenever_its_last_slot_was() -> None:
    assert turn(Every(3_600), Missed.LATEST, grace_s=60, standing=Standing(), now_s=7_300) is None
