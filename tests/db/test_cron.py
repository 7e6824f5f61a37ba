"""The fence: who may run a slot, and that nobody commits under a fence that is no longer newest."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import cron
from app.db.engine import Database
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun, Outbox
from app.db.types import db_now, new_id
from app.errors import DatabaseUnavailable, FencedOut
from tests.support.database import column, rows_in
from tests.support.waiting import eventually

JOB = "overdue"
SLOT = 1_700_000_000
HOUR_MS = 3_600_000


def _claim(database: Database, *, slot: int = SLOT, holder: str = "one") -> int | None:
    """The first transaction of a run, as the scheduler makes it."""
    with database.write() as session:
        fence = cron.mint_fence(session, job=JOB, slot=slot, holder=holder, ttl_ms=HOUR_MS)
        if fence is None:
            return None
        if cron.open_run(session, job=JOB, slot=slot, fence=fence, instance=holder):
            return fence
        session.rollback()
        return None


def _claimed(database: Database, *, slot: int = SLOT, holder: str = "one") -> int:
    fence = _claim(database, slot=slot, holder=holder)
    assert fence is not None
    return fence


def _lease_runs_out(database: Database) -> None:
    with database.write() as session:
        session.execute(update(CronJob).values(lease_until=1))


def _renewed(session: Session, fence: int) -> None:
    cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)


def _not_renewed(_session: Session, _fence: int) -> None:
    """The control: a batch that forgot the rule."""


def _batch(database: Database, fence: int, begin: Callable[[Session, int], None]) -> None:
    """One row of work for a fence, in a transaction that starts with `begin`."""
    with database.write() as session:
        begin(session, fence)
        kind = f"fence {fence}"
        session.add(Outbox(kind=kind, subject_id=new_id(), payload={}, created_at=db_now()))


def _finish(database: Database, fence: int, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    with database.write() as session:
        cron.finish(session, job=JOB, slot=SLOT, fence=fence, outcome=outcome)


def _runs(database: Database, slot: int = SLOT) -> list[CronRun]:
    """The slot's attempts, in order."""
    with database.read() as session:
        mine = select(CronRun).where(CronRun.slot == slot).order_by(CronRun.attempt)
        return list(session.scalars(mine))


def _run(database: Database, slot: int = SLOT) -> CronRun:
    """The slot's last attempt."""
    return _runs(database, slot)[-1]


def _beat(database: Database, fence: int, rows: int) -> None:
    with database.write() as session:
        cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)
        cron.heartbeat(session, job=JOB, slot=SLOT, fence=fence, rows=rows)


# --- the fence -----------------------------------------------------------------


def test_an_older_fence_cannot_commit_a_batch(database: Database) -> None:
    older = _claimed(database, holder="one")
    _lease_runs_out(database)
    newer = _claimed(database, holder="two")
    _batch(database, newer, _renewed)
    with pytest.raises(FencedOut):
        _batch(database, older, _renewed)
    assert column(database, Outbox.kind) == [f"fence {newer}"]


def test_without_the_renewal_the_same_two_runs_both_commit(database: Database) -> None:
    older = _claimed(database, holder="one")
    _lease_runs_out(database)
    newer = _claimed(database, holder="two")
    _batch(database, newer, _not_renewed)
    _batch(database, older, _not_renewed)
    assert column(database, Outbox.kind) == [f"fence {older}", f"fence {newer}"]


def test_an_older_fence_cannot_finish_what_a_newer_one_holds(database: Database) -> None:
    older = _claimed(database, holder="one")
    _lease_runs_out(database)
    newer = _claimed(database, holder="two")
    for outcome in (Outcome.SUCCEEDED, Outcome.STOPPED):
        with pytest.raises(FencedOut):
            _finish(database, older, outcome)
    assert _run(database).outcome is None
    assert _claim(database, holder="three") is None
    _finish(database, newer)
    assert _run(database).outcome == Outcome.SUCCEEDED


def test_fences_rise_by_one_and_a_taken_lease_gives_none(database: Database) -> None:
    first = _claimed(database)
    assert _claim(database, holder="two") is None
    _lease_runs_out(database)
    assert _claimed(database, holder="two") == first + 1
    assert column(database, CronJob.holder) == ["two"]


def test_a_renewal_moves_the_lease_ahead_by_the_databases_clock(database: Database) -> None:
    fence = _claimed(database)
    _lease_runs_out(database)
    with database.write() as session:
        cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)
    assert _claim(database, holder="two") is None


def test_an_attempt_that_was_stopped_lets_the_next_go_on_with_the_same_slot(
    database: Database,
) -> None:
    fence = _claimed(database, holder="one")
    _beat(database, fence, 30)
    _finish(database, fence, Outcome.STOPPED)
    next_fence = _claimed(database, holder="two")
    _beat(database, next_fence, 12)
    _finish(database, next_fence)
    first, second = _runs(database)
    assert (first.attempt, first.rows, first.instance, first.fence) == (1, 30, "one", fence)
    assert (second.attempt, second.rows, second.instance) == (2, 12, "two")
    assert (first.outcome, second.outcome) == (Outcome.STOPPED, Outcome.SUCCEEDED)
    assert second.ended_at is not None
    assert second.started_at <= second.heartbeat_at <= second.ended_at


def test_an_attempt_that_was_taken_up_by_another_is_entered_as_fenced_out(
    database: Database,
) -> None:
    _claimed(database, holder="one")
    _lease_runs_out(database)
    _claimed(database, holder="two")
    first, second = _runs(database)
    assert (first.outcome, first.instance) == (Outcome.FENCED_OUT, "one")
    assert (second.outcome, second.attempt) == (None, 2)


def test_the_ledger_itself_refuses_a_second_outcome_for_a_slot(database: Database) -> None:
    """The last line of defence, for a bug in all that stands before it."""
    _finish(database, _claimed(database))
    second = {"attempt": 2, "fence": 9, "instance": "x", "outcome": Outcome.SUCCEEDED}
    when = {"started_at": db_now(), "heartbeat_at": db_now()}
    entry = insert(CronRun).values(job=JOB, slot=SLOT, rows=0, **second, **when)
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(entry)


def test_a_slot_that_has_its_outcome_is_not_opened_again(database: Database) -> None:
    _finish(database, _claimed(database), Outcome.FAILED)
    assert _claim(database, holder="two") is None
    run = _run(database)
    assert (run.attempt, run.outcome, run.instance) == (1, Outcome.FAILED, "one")
    # The refused claim was rolled back, so that it holds no lease on the next slot.
    assert _claim(database, slot=SLOT + 3_600) is not None


def test_a_slot_before_the_jobs_latest_gets_no_fence(database: Database) -> None:
    _finish(database, _claimed(database))
    assert _claim(database, slot=SLOT - 3_600) is None


def test_a_slot_that_has_not_begun_gets_no_fence(database: Database) -> None:
    assert _claim(database, slot=int(_seen(database).now_s) + 60) is None


def _seen(database: Database) -> cron.Seen:
    with database.read() as session:
        return cron.seen(session, job=JOB)


def _pause(database: Database, paused: bool) -> None:
    with database.write() as session:
        cron.set_paused(session, job=JOB, paused=paused)


def test_a_paused_job_gets_no_fence_until_it_is_resumed(database: Database) -> None:
    _pause(database, True)  # before its first run
    assert _claim(database) is None
    _pause(database, False)
    _finish(database, _claimed(database))
    _pause(database, True)
    assert _claim(database, slot=SLOT + 3_600) is None
    _pause(database, False)
    assert _claim(database, slot=SLOT + 3_600) is not None


def test_a_run_under_way_is_told_at_its_next_renewal_that_its_job_is_paused(
    database: Database,
) -> None:
    fence = _claimed(database)
    told = []
    for paused in (False, True):
        _pause(database, paused)
        with database.write() as session:
            told.append(cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS))
    assert told == [False, True]


def test_what_is_seen_of_a_job_is_its_newest_slot_and_whether_that_is_open(
    database: Database,
) -> None:
    assert _seen(database)[1:] == (0, False, False)
    fence = _claimed(database)
    assert _seen(database)[1:] == (SLOT, True, False)
    _finish(database, fence, Outcome.STOPPED)
    assert _seen(database)[1:] == (SLOT, True, False)
    _finish(database, _claimed(database))
    assert _seen(database)[1:] == (SLOT, False, False)


def test_an_outcome_is_written_once(database: Database) -> None:
    fence = _claimed(database)
    _finish(database, fence)
    with pytest.raises(FencedOut, match="ended by another run"):
        _finish(database, fence, Outcome.FAILED)
    assert _run(database).outcome == Outcome.SUCCEEDED


@pytest.mark.parametrize("left", [None, Outcome.STOPPED])
def test_the_slot_before_is_abandoned_if_it_has_no_outcome(
    database: Database, left: Outcome | None
) -> None:
    _claimed(database)
    _lease_runs_out(database)
    fence = _claimed(database)
    if left is not None:
        _finish(database, fence, left)
    for count in (1, 0):
        with database.write() as session:
            assert cron.abandon_older(session, job=JOB, slot=SLOT + 1) == count
    assert [run.outcome for run in _runs(database)] == [Outcome.FENCED_OUT, Outcome.ABANDONED]


def test_missed_slots_are_entered_once_and_never_beside_an_outcome(database: Database) -> None:
    _finish(database, _claimed(database))
    missed = [SLOT, SLOT + 1, SLOT + 2]
    for count in (2, 0):
        with database.write() as session:
            entered = cron.enter_missed(session, job=JOB, instance="one", slots=missed)
            assert entered == count
    outcomes = [[run.outcome for run in _runs(database, slot)] for slot in missed]
    assert outcomes == [[Outcome.SUCCEEDED], [Outcome.MISSED], [Outcome.MISSED]]


def test_passing_over_moves_the_job_and_leaves_nothing_open_behind(database: Database) -> None:
    _claimed(database)
    _lease_runs_out(database)
    assert _pass_over(database, SLOT + 1, SLOT + 2) == 2
    assert _seen(database)[1:] == (SLOT + 2, False, False)
    assert _run(database).outcome == Outcome.ABANDONED
    assert _pass_over(database, SLOT + 1, SLOT + 2) == 0


def test_nothing_is_passed_over_while_somebody_runs_the_job(database: Database) -> None:
    _claimed(database)
    assert _pass_over(database, SLOT + 1) == 0
    assert _seen(database)[1:] == (SLOT, True, False)


def _pass_over(database: Database, *slots: int) -> int:
    with database.write() as session:
        return cron.pass_over(session, job=JOB, instance="one", slots=slots)


def test_the_ledger_tells_which_slots_are_over(database: Database) -> None:
    with database.read() as session:
        assert not cron.has_outcome(session, job=JOB, slot=SLOT)
    _finish(database, _claimed(database))
    _claimed(database, slot=SLOT + 3_600)
    with database.read() as session:
        assert cron.has_outcome(session, job=JOB, slot=SLOT)
        assert not cron.has_outcome(session, job=JOB, slot=SLOT + 3_600)


# --- several at once ------------------------------------------------------------


def test_of_eight_that_claim_a_new_job_at_once_one_gets_the_fence(database: Database) -> None:
    start = threading.Barrier(8)
    fences: list[int | None] = []

    def claim(holder: str) -> None:
        start.wait(10)
        fences.append(_claim(database, holder=holder))

    threads = [threading.Thread(target=claim, args=(f"holder-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(fences, key=str) == [1, *[None] * 7]
    assert rows_in(database, CronRun) == 1


def test_a_claim_does_not_wait_for_a_holder_in_the_middle_of_a_batch(postgres: Database) -> None:
    fence = _claimed(postgres)
    _lease_runs_out(postgres)
    with postgres.write() as batch:
        cron.renew(batch, job=JOB, fence=fence, ttl_ms=HOUR_MS)
        # Were the claim to wait, it would wait for this very block.
        assert _claim(postgres, holder="two") is None
    assert _run(postgres).attempt == 1


def test_postgresql_ends_a_batch_that_stands_still_and_the_next_run_gets_the_row(
    postgres: Database,
) -> None:
    fence = _claimed(postgres)
    with pytest.raises(DatabaseUnavailable), postgres.write() as batch:
        _stand_still_until_ended(postgres, batch, fence)
    assert rows_in(postgres, Outbox) == 0
    _lease_runs_out(postgres)
    assert _claim(postgres, holder="two") == fence + 1


def _stand_still_until_ended(postgres: Database, batch: Session, fence: int) -> None:
    cron.renew(batch, job=JOB, fence=fence, ttl_ms=100)
    batch.add(Outbox(kind="late", subject_id=new_id(), payload={}, created_at=db_now()))
    batch.flush()
    pid = batch.scalar(text("SELECT pg_backend_pid()"))
    with postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        eventually(lambda: other.scalar(alive, {"pid": pid}) == 0, what="the end of the backend")
    batch.execute(text("SELECT 1"))
