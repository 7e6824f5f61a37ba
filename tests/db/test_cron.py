"""The fence: who may run a slot, and that nobody commits under a fence that is no longer newest."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import cron
from app.db.engine import Database
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun, Outbox
from app.db.types import db_now, new_id
from app.errors import DatabaseUnavailable, FencedOut
from tests.db.cron_calls import (
    HOUR_MS,
    JOB,
    SLOT,
    claim,
    claimed,
    finish,
    last_run,
    lease_runs_out,
    pause,
    seen,
)
from tests.support.database import column, rows_in
from tests.support.waiting import eventually


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


def test_an_older_fence_cannot_commit_a_batch(database: Database) -> None:
    older = claimed(database, holder="one")
    lease_runs_out(database)
    newer = claimed(database, holder="two")
    _batch(database, newer, _renewed)
    with pytest.raises(FencedOut):
        _batch(database, older, _renewed)
    assert column(database, Outbox.kind) == [f"fence {newer}"]


def test_without_the_renewal_the_same_two_runs_both_commit(database: Database) -> None:
    older = claimed(database, holder="one")
    lease_runs_out(database)
    newer = claimed(database, holder="two")
    _batch(database, newer, _not_renewed)
    _batch(database, older, _not_renewed)
    assert column(database, Outbox.kind) == [f"fence {older}", f"fence {newer}"]


def test_an_older_fence_cannot_finish_what_a_newer_one_holds(database: Database) -> None:
    older = claimed(database, holder="one")
    lease_runs_out(database)
    newer = claimed(database, holder="two")
    for outcome in (Outcome.SUCCEEDED, Outcome.STOPPED):
        with pytest.raises(FencedOut):
            finish(database, older, outcome)
    assert last_run(database).outcome is None
    assert claim(database, holder="three") is None
    finish(database, newer)
    assert last_run(database).outcome == Outcome.SUCCEEDED


def test_fences_rise_by_one_and_a_taken_lease_gives_none(database: Database) -> None:
    first = claimed(database)
    assert claim(database, holder="two") is None
    lease_runs_out(database)
    assert claimed(database, holder="two") == first + 1
    assert column(database, CronJob.holder) == ["two"]


def test_a_renewal_moves_the_lease_ahead_by_the_databases_clock(database: Database) -> None:
    fence = claimed(database)
    lease_runs_out(database)
    with database.write() as session:
        cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)
    assert claim(database, holder="two") is None


def test_a_slot_before_the_jobs_latest_gets_no_fence(database: Database) -> None:
    finish(database, claimed(database))
    assert claim(database, slot=SLOT - 3_600) is None


def test_a_slot_that_has_not_begun_gets_no_fence(database: Database) -> None:
    assert claim(database, slot=int(seen(database).now_s) + 60) is None


def test_a_paused_job_gets_no_fence_until_it_is_resumed(database: Database) -> None:
    pause(database, True)  # before its first run
    assert claim(database) is None
    pause(database, False)
    finish(database, claimed(database))
    pause(database, True)
    assert claim(database, slot=SLOT + 3_600) is None
    pause(database, False)
    assert claim(database, slot=SLOT + 3_600) is not None


def test_a_run_under_way_is_told_at_its_next_renewal_that_its_job_is_paused(
    database: Database,
) -> None:
    fence = claimed(database)
    told = []
    for paused in (False, True):
        pause(database, paused)
        with database.write() as session:
            told.append(cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS))
    assert told == [False, True]


def test_what_is_seen_of_a_job_is_its_newest_slot_and_whether_that_is_open(
    database: Database,
) -> None:
    assert seen(database)[1:] == (0, False, False)
    fence = claimed(database)
    assert seen(database)[1:] == (SLOT, True, False)
    finish(database, fence, Outcome.STOPPED)
    assert seen(database)[1:] == (SLOT, True, False)
    finish(database, claimed(database))
    assert seen(database)[1:] == (SLOT, False, False)


def test_of_eight_that_claim_a_new_job_at_once_one_gets_the_fence(database: Database) -> None:
    start = threading.Barrier(8)
    fences: list[int | None] = []

    def enter(holder: str) -> None:
        start.wait(10)
        fences.append(claim(database, holder=holder))

    threads = [threading.Thread(target=enter, args=(f"holder-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(fences, key=str) == [1, *[None] * 7]
    assert rows_in(database, CronRun) == 1


def test_a_claim_does_not_wait_for_a_holder_in_the_middle_of_a_batch(postgres: Database) -> None:
    fence = claimed(postgres)
    lease_runs_out(postgres)
    with postgres.write() as batch:
        cron.renew(batch, job=JOB, fence=fence, ttl_ms=HOUR_MS)
        # Were the claim to wait, it would wait for this very block.
        assert claim(postgres, holder="two") is None
    assert last_run(postgres).attempt == 1


def test_postgresql_ends_a_batch_that_stands_still_and_the_next_run_gets_the_row(
    postgres: Database,
) -> None:
    fence = claimed(postgres)
    with pytest.raises(DatabaseUnavailable), postgres.write() as batch:
        _stand_still_until_ended(postgres, batch, fence)
    assert rows_in(postgres, Outbox) == 0
    lease_runs_out(postgres)
    assert claim(postgres, holder="two") == fence + 1


def _stand_still_until_ended(postgres: Database, batch: Session, fence: int) -> None:
    cron.renew(batch, job=JOB, fence=fence, ttl_ms=100)
    batch.add(Outbox(kind="late", subject_id=new_id(), payload={}, created_at=db_now()))
    batch.flush()
    pid = batch.scalar(text("SELECT pg_backend_pid()"))
    with postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        eventually(lambda: other.scalar(alive, {"pid": pid}) == 0, what="the end of the backend")
    batch.execute(text("SELECT 1"))
