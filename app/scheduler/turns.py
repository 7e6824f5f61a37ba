"""Which slot of a job is due, and which are passed over: the policy for missed slots.

A slot is missed when no scheduler began it before the next one came. The policy says what becomes
of those; whatever it is, each slot that is not run is entered in the ledger as `missed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from app.scheduler.schedules import Schedule

# How late a slot may begin that must be on time: a look, and a claim that was refused once.
ON_TIME_S = 60
# Each missed slot has its row in the ledger; of more at once only the newest are told.
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
    open_slot = standing.slot if standing.is_open else None
    if policy is Missed.ALL and open_slot is not None:
        return Turn(open_slot)
    most_s = min(grace_s, ON_TIME_S) if policy is Missed.SKIP else grace_s
    new: deque[int] = deque(maxlen=MOST_MISSED + 1)
    for each in _new_slots(schedule, standing, now_s):
        new.append(each)
        if policy is Missed.ALL and now_s - each <= most_s:
            break
    if not new:
        return None if open_slot is None else Turn(open_slot)
    slot = new.pop() if now_s - new[-1] <= most_s else None
    if slot is None and not standing.slot:
        return None  # begun before there was such a job: nobody missed it
    return Turn(slot, tuple(new)[-MOST_MISSED:])


def _new_slots(schedule: Schedule, standing: Standing, now_s: float) -> Iterator[int]:
    """The slots that have begun since the job's newest, the oldest first.

    Only forwards: backwards, the hour that comes twice hides a slot.
    """
    if not standing.slot:  # a job's first turn: it has missed nothing
        yield schedule.latest(now_s)
        return
    slot = schedule.after(standing.slot)
    while slot <= now_s:
        yield slot
        slot = schedule.after(slot)
