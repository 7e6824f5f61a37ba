"""The fence: who may run a slot, and that nobody commits under a fence that is no longer newest."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select, text, update
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


def _run(database: Database, slot: int = SLOT) -> CronRun:
    with database.read() as session:
        return session.scalars(select(CronRun).where(CronRun.slot == slot)).one()


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


def test_an_older_fence_can_neither_finish_nor_free_the_newer_ones_lease(
    database: Database,
) -> None:
    older = _claimed(database, holder="one")
    _lease_runs_out(database)
    newer = _claimed(database, holder="two")
    with pytest.raises(FencedOut):
        _finish(database, older)
    with pytest.raises(FencedOut), database.write() as session:
        cron.free_lease(session, job=JOB, fence=older)
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


def test_a_lease_that_was_freed_lets_the_next_go_on_with_the_same_slot(database: Database) -> None:
    fence = _claimed(database, holder="one")
    with database.write() as session:
        cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)
        cron.heartbeat(session, job=JOB, slot=SLOT, rows=30)
        cron.free_lease(session, job=JOB, fence=fence)
    next_fence = _claimed(database, holder="two")
    with database.write() as session:
        cron.heartbeat(session, job=JOB, slot=SLOT, rows=12)
    _finish(database, next_fence)
    run = _run(database)
    assert (run.attempt, run.rows, run.instance, run.fence) == (2, 42, "two", next_fence)
    assert run.outcome == Outcome.SUCCEEDED
    assert run.ended_at is not None
    assert run.started_at <= run.heartbeat_at <= run.ended_at


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


def test_a_paused_job_gets_no_fence(database: Database) -> None:
    _finish(database, _claimed(database))
    with database.write() as session:
        session.execute(update(CronJob).values(paused=True))
    assert _claim(database, slot=SLOT + 3_600) is None


def test_an_outcome_is_written_once(database: Database) -> None:
    fence = _claimed(database)
    _finish(database, fence)
    with pytest.raises(FencedOut, match="ended by another run"):
        _finish(database, fence, Outcome.FAILED)
    assert _run(database).outcome == Outcome.SUCCEEDED


def test_older_open_runs_are_abandoned_and_closed_ones_are_kept(database: Database) -> None:
    _finish(database, _claimed(database, slot=SLOT))
    for slot in (SLOT + 1, SLOT + 2, SLOT + 3):
        _claimed(database, slot=slot)
        _lease_runs_out(database)
    with database.write() as session:
        assert cron.abandon_older(session, job=JOB, slot=SLOT + 3) == 2
        assert cron.abandon_older(session, job=JOB, slot=SLOT + 3) == 0
    outcomes = [_run(database, SLOT + offset).outcome for offset in range(4)]
    assert outcomes == [Outcome.SUCCEEDED, Outcome.ABANDONED, Outcome.ABANDONED, None]


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
