"""The ledger: each attempt at a slot and how it ended, and one outcome for each slot."""

from __future__ import annotations

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from app.db import cron_ledger
from app.db.engine import Database
from app.db.enums import Outcome
from app.db.models import CronRun
from app.db.types import db_now
from app.errors import FencedOut
from tests.db.cron_calls import (
    JOB,
    SLOT,
    beat,
    claim,
    claimed,
    finish,
    last_run,
    lease_runs_out,
    pass_over,
    runs,
    seen,
)
from tests.support.database import column


def test_an_attempt_that_was_stopped_lets_the_next_go_on_with_the_same_slot(
    database: Database,
) -> None:
    fence = claimed(database, holder="one")
    beat(database, fence, 30)
    finish(database, fence, Outcome.STOPPED)
    next_fence = claimed(database, holder="two")
    beat(database, next_fence, 12)
    finish(database, next_fence)
    first, second = runs(database)
    assert (first.attempt, first.rows, first.instance, first.fence) == (1, 30, "one", fence)
    assert (second.attempt, second.rows, second.instance) == (2, 12, "two")
    assert (first.outcome, second.outcome) == (Outcome.STOPPED, Outcome.SUCCEEDED)
    assert second.ended_at is not None
    assert second.started_at <= second.heartbeat_at <= second.ended_at


def test_an_attempt_that_did_nothing_and_gave_its_slot_back_is_gone_on_with_in_its_row(
    database: Database,
) -> None:
    """Or rows that somebody holds for a day would make an attempt of every look."""
    for holder in ("one", "two", "three"):
        fence = claimed(database, holder=holder)
        finish(database, fence, Outcome.STOPPED)
    assert [(each.attempt, each.instance, each.fence) for each in runs(database)] == [
        (1, "three", 3)
    ]
    beat(database, claimed(database, holder="four"), 5)
    (run,) = runs(database)
    assert (run.instance, run.fence, run.rows) == ("four", 4, 5)
    assert (run.outcome, run.ended_at) == (None, None)


def test_an_attempt_that_did_nothing_and_was_overtaken_keeps_its_row(database: Database) -> None:
    claimed(database, holder="one")
    lease_runs_out(database)
    claimed(database, holder="two")
    assert [(each.attempt, each.instance) for each in runs(database)] == [(1, "one"), (2, "two")]


def test_an_attempt_that_was_taken_up_by_another_is_entered_as_fenced_out(
    database: Database,
) -> None:
    claimed(database, holder="one")
    lease_runs_out(database)
    claimed(database, holder="two")
    first, second = runs(database)
    assert (first.outcome, first.instance) == (Outcome.FENCED_OUT, "one")
    assert (second.outcome, second.attempt) == (None, 2)


def test_the_ledger_itself_refuses_a_second_outcome_for_a_slot(database: Database) -> None:
    """The last line of defence, for a bug in all that stands before it."""
    finish(database, claimed(database))
    second = {"attempt": 2, "fence": 9, "instance": "x", "outcome": Outcome.SUCCEEDED}
    when = {"started_at": db_now(), "heartbeat_at": db_now()}
    entry = insert(CronRun).values(job=JOB, slot=SLOT, rows=0, **second, **when)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(entry)


def test_a_slot_that_has_its_outcome_is_not_opened_again(database: Database) -> None:
    finish(database, claimed(database), Outcome.FAILED)
    assert claim(database, holder="two") is None
    run = last_run(database)
    assert (run.attempt, run.outcome, run.instance) == (1, Outcome.FAILED, "one")
    # The refused claim was rolled back, so that it holds no lease on the next slot.
    assert claim(database, slot=SLOT + 3_600) is not None


def test_an_outcome_is_written_once(database: Database) -> None:
    fence = claimed(database)
    finish(database, fence)
    with pytest.raises(FencedOut, match="ended by another run"):
        finish(database, fence, Outcome.FAILED)
    assert last_run(database).outcome == Outcome.SUCCEEDED


@pytest.mark.parametrize("left", [None, Outcome.STOPPED])
def test_the_slot_before_is_abandoned_if_it_has_no_outcome(
    database: Database, left: Outcome | None
) -> None:
    claimed(database)
    lease_runs_out(database)
    fence = claimed(database)
    if left is not None:
        finish(database, fence, left)
    for count in (1, 0):
        with database.write() as session:
            assert cron_ledger.abandon_older(session, job=JOB, slot=SLOT + 1) == count
    assert [run.outcome for run in runs(database)] == [Outcome.FENCED_OUT, Outcome.ABANDONED]


def test_missed_slots_are_entered_once_and_never_beside_an_outcome(database: Database) -> None:
    finish(database, claimed(database))
    missed = [SLOT, SLOT + 1, SLOT + 2]
    for count in (2, 0):
        with database.write() as session:
            entered = cron_ledger.enter_missed(session, job=JOB, instance="one", slots=missed)
            assert entered == count
    outcomes = [[run.outcome for run in runs(database, slot)] for slot in missed]
    assert outcomes == [[Outcome.SUCCEEDED], [Outcome.MISSED], [Outcome.MISSED]]


def test_passing_over_moves_the_job_and_leaves_nothing_open_behind(database: Database) -> None:
    claimed(database)
    lease_runs_out(database)
    assert pass_over(database, SLOT + 1, SLOT + 2) == 2
    assert seen(database)[1:] == (SLOT + 2, False, False)
    assert last_run(database).outcome == Outcome.ABANDONED
    assert pass_over(database, SLOT + 1, SLOT + 2) == 0


def test_nothing_is_passed_over_while_somebody_runs_the_job(database: Database) -> None:
    claimed(database)
    assert pass_over(database, SLOT + 1) == 0
    assert seen(database)[1:] == (SLOT, True, False)


def test_the_ledger_tells_which_slots_are_over(database: Database) -> None:
    with database.read() as session:
        assert not cron_ledger.has_outcome(session, job=JOB, slot=SLOT)
    finish(database, claimed(database))
    claimed(database, slot=SLOT + 3_600)
    with database.read() as session:
        assert cron_ledger.has_outcome(session, job=JOB, slot=SLOT)
        assert not cron_ledger.has_outcome(session, job=JOB, slot=SLOT + 3_600)


# --- how much is kept -------------------------------------------------------------


def trimmed(database: Database, slot: int, *, keep: int, at_once: int = 100) -> list[int]:
    """The slots that are left."""
    with pytest.MonkeyPatch.context() as patch, database.write() as session:
        patch.setattr(cron_ledger, "KEPT", keep)
        patch.setattr(cron_ledger, "TRIMMED_AT_ONCE", at_once)
        cron_ledger.trim(session, job=JOB, slot=slot)
    return column(database, CronRun.slot)


def entered(database: Database, *slots: int, job: str = JOB) -> None:
    with database.write() as session:
        cron_ledger.enter_missed(session, job=job, instance="one", slots=slots)


def test_the_oldest_slots_leave_the_ledger_once_it_has_more_than_it_keeps(
    database: Database,
) -> None:
    entered(database, *range(1, 8))
    assert trimmed(database, 7, keep=7) == [1, 2, 3, 4, 5, 6, 7]
    assert trimmed(database, 7, keep=3) == [4, 5, 6, 7]


def test_no_slot_is_forgotten_in_part(database: Database) -> None:
    for number in range(4):
        beat(database, claimed(database, holder=f"holder-{number}"), 1)
        lease_runs_out(database)
    entered(database, SLOT + 1, SLOT - 1)
    assert trimmed(database, SLOT + 1, keep=2) == [*[SLOT] * 4, SLOT + 1]


def test_so_many_leave_at_once_the_oldest_first(database: Database) -> None:
    entered(database, *range(1, 8))
    assert trimmed(database, 7, keep=1, at_once=2) == [3, 4, 5, 6, 7]
    assert trimmed(database, 7, keep=1, at_once=2) == [5, 6, 7]


def test_slots_ahead_of_the_one_that_is_run_push_none_out(database: Database) -> None:
    """As a clock that was ahead for a while leaves them."""
    entered(database, 1, 2, 3, 1_001, 1_002, 1_003)
    assert trimmed(database, 3, keep=2) == [1, 2, 3, 1_001, 1_002, 1_003]


def test_another_jobs_slots_stay(database: Database) -> None:
    entered(database, *range(1, 8))
    entered(database, *range(1, 3), job="other")
    assert trimmed(database, 7, keep=2) == [1, 2, 5, 6, 7]
