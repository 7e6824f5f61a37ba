"""When slots begin, also where the clocks of a zone jump."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from cronsim import CronSimError
from hypothesis import given
from hypothesis import strategies as st

from app.scheduler.schedules import Cron, Every, Schedule

BERLIN = "Europe/Berlin"
NINE = Cron("0 9 * * *", BERLIN)
HALF_PAST_TWO = Cron("30 2 * * *", BERLIN)
EACH = [Every(1), Every(3_600), NINE, HALF_PAST_TWO, Cron("*/15 * * * 1-5", "Asia/Kathmandu")]


def at(text: str) -> int:
    """A moment on Berlin's clocks, as seconds since the epoch; `+` marks the second of an hour."""
    fold = int(text.endswith("+"))
    moment = datetime.fromisoformat(text.rstrip("+"))
    return int(moment.replace(tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp())


def test_a_slot_begins_at_every_multiple_of_its_period() -> None:
    hourly = Every(3_600)
    first = 472_222 * 3_600
    assert hourly.latest(first) == first
    assert hourly.latest(first + 3_599.999) == first
    assert hourly.latest(first + 3_600) == first + 3_600
    assert hourly.after(first) == first + 3_600


@given(st.sampled_from(EACH), st.integers(0, 2**32))
def test_every_schedule_counts_its_slots_forwards_as_backwards(
    schedule: Schedule, now: int
) -> None:
    latest, following = schedule.latest(now), schedule.after(now)
    assert latest <= now < following
    assert schedule.after(latest) == following
    assert schedule.latest(latest) == latest
    assert schedule.latest(following - 1) == latest


def test_nine_o_clock_is_nine_on_the_clocks_of_its_zone_in_summer_and_in_winter() -> None:
    assert NINE.latest(at("2026-03-28T12:00")) == at("2026-03-28T09:00")
    assert NINE.latest(at("2026-03-29T12:00")) == at("2026-03-29T09:00")
    assert at("2026-03-29T09:00") - at("2026-03-28T09:00") == 23 * 3_600


def test_an_hour_that_is_left_out_runs_right_after_the_gap() -> None:
    day = at("2026-03-29T00:00")
    assert HALF_PAST_TWO.after(day) == at("2026-03-29T03:00")
    assert HALF_PAST_TWO.after(at("2026-03-29T03:00")) == at("2026-03-30T02:30")


def test_an_hour_that_comes_twice_runs_once() -> None:
    first = HALF_PAST_TWO.after(at("2026-10-25T00:00"))
    assert first == at("2026-10-25T02:30")
    assert HALF_PAST_TWO.after(at("2026-10-25T02:30+")) == at("2026-10-26T02:30")


@pytest.mark.parametrize(
    "clock", ["02:30", "02:59", "02:00+", "02:10+", "02:29+", "02:30+", "04:00"]
)
def test_what_ran_in_the_first_of_two_equal_hours_is_the_latest_throughout_the_second(
    clock: str,
) -> None:
    assert HALF_PAST_TWO.latest(at(f"2026-10-25T{clock}")) == at("2026-10-25T02:30")


def test_a_wildcard_goes_by_real_time_through_the_hour_that_comes_twice() -> None:
    hourly = Cron("0 * * * *", BERLIN)
    slots = [at("2026-10-25T00:00")]
    for _ in range(5):
        slots.append(hourly.after(slots[-1]))
    assert [later - slots[0] for later in slots] == [3_600 * n for n in range(6)]


def test_what_is_no_expression_or_no_zone_is_refused_when_the_table_is_made() -> None:
    with pytest.raises(CronSimError):
        Cron("61 * * * *")
    with pytest.raises(ZoneInfoNotFoundError):
        Cron("0 * * * *", "Europe/Atlantis")
