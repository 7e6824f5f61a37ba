"""Which slot of a job is due, and which are passed over: the policy for missed slots.

A slot is missed when no scheduler began it before the next one came. The policy says what becomes
of those; whatever it is, each slot that is not run is entered in the ledger as `missed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import islice, takewhile
from typing import NamedTuple

from app.scheduler.schedules import Schedule

# How late a slot may begin that must be on time: a look, and a claim that was refused once.
ON_TIME_S = 60
# Each missed slot has its row in the ledger; of a longer row of them the newest are told.
MOST_MISSED = 1_000


class Missed(StrEnum):
    """What becomes of slots that nobody began in time.

    `LATEST`: the newest is run, the others are passed over, a run left open becomes `abandoned`.
    `ALL`: each is run, the oldest first. `SKIP`: none is; the next that is on time is run.
    """

    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class Standing(NamedTuple):
    """A job in the database: its newest slot (0: none yet), and whether that has no outcome."""

    slot: int = 0
    is_open: bool = False


class Turn(NamedTuple):
    """`slot` is to be run now, None if none is; `missed` are passed over, the oldest first."""

    slot: int | None
    missed: tuple[int, ...] = ()


def turn(
    schedule: Schedule, policy: Missed, *, grace_s: int, standing: Standing, now_s: float
) -> Turn | None:
    """What a job has to do at `now_s`; None if nothing.

    Args:
        grace_s: a slot that began longer ago than this is never begun, only taken up.
        now_s: the database's clock, seconds since the epoch.
    """
    new = _new_slots(schedule, standing, now_s)
    open_slot = standing.slot if standing.is_open else None
    if not new or (policy is Missed.ALL and open_slot is not None):
        return None if open_slot is None else Turn(open_slot)
    most_s = min(grace_s, ON_TIME_S) if policy is Missed.SKIP else grace_s
    in_time = [slot for slot in new if now_s - slot <= most_s]
    if policy is not Missed.ALL:
        in_time = [slot for slot in in_time if slot == new[-1]]
    slot = in_time[0] if in_time else None
    if slot is None and not standing.slot:
        return None  # begun before there was such a job: nobody missed it
    return Turn(slot, tuple(each for each in new if slot is None or each < slot))


def _new_slots(schedule: Schedule, standing: Standing, now_s: float) -> list[int]:
    """The slots that have begun since the job's newest, the oldest first."""
    latest = schedule.latest(now_s)
    if not standing.slot:  # a job's first turn: it has missed nothing
        return [latest]
    newer = takewhile(lambda slot: slot > standing.slot, _backwards(schedule, latest))
    return list(islice(newer, MOST_MISSED + 1))[::-1]


def _backwards(schedule: Schedule, slot: int) -> Iterator[int]:
    while True:
        yield slot
        slot = schedule.before(slot)
