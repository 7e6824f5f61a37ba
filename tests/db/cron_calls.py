"""Runs of a job as the scheduler makes them, one call for each transaction."""

from __future__ import annotations

from sqlalchemy import select, update

from app.db import cron, cron_ledger
from app.db.engine import Database
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun

JOB = "overdue"
SLOT = 1_700_000_000
HOUR_MS = 3_600_000


def claim(database: Database, *, slot: int = SLOT, holder: str = "one") -> int | None:
    """The first transaction of a run, as the scheduler makes it."""
    with database.write() as session:
        fence = cron.mint_fence(session, job=JOB, slot=slot, holder=holder, ttl_ms=HOUR_MS)
        if fence is None:
            return None
        if cron_ledger.open_run(session, job=JOB, slot=slot, fence=fence, instance=holder):
            return fence
        session.rollback()
        return None


def claimed(database: Database, *, slot: int = SLOT, holder: str = "one") -> int:
    fence = claim(database, slot=slot, holder=holder)
    assert fence is not None
    return fence


def lease_runs_out(database: Database) -> None:
    with database.write() as session:
        session.execute(update(CronJob).values(lease_until=1))


def finish(database: Database, fence: int, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    with database.write() as session:
        cron.finish(session, job=JOB, slot=SLOT, fence=fence, outcome=outcome)


def runs(database: Database, slot: int = SLOT) -> list[CronRun]:
    """The slot's attempts, in order."""
    with database.read() as session:
        mine = select(CronRun).where(CronRun.slot == slot).order_by(CronRun.attempt)
        return list(session.scalars(mine))


def last_run(database: Database, slot: int = SLOT) -> CronRun:
    """The slot's last attempt."""
    return runs(database, slot)[-1]


def beat(database: Database, fence: int, rows: int) -> None:
    with database.write() as session:
        cron.renew(session, job=JOB, fence=fence, ttl_ms=HOUR_MS)
        cron_ledger.heartbeat(session, job=JOB, slot=SLOT, fence=fence, rows=rows)


def seen(database: Database) -> cron.Seen:
    with database.read() as session:
        return cron.seen(session, job=JOB)


def pause(database: Database, paused: bool) -> None:
    with database.write() as session:
        cron.set_paused(session, job=JOB, paused=paused)


def pass_over(database: Database, *slots: int) -> int:
    with database.write() as session:
        return cron.pass_over(session, job=JOB, instance="one", slots=slots)
