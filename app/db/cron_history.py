"""The jobs and their ledger as operators read them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app.db.models import CronJob, CronRun
from app.db.types import db_now_ms


class Entry(NamedTuple):
    """A row of the ledger. `interrupted`: an attempt without an outcome that nobody works on.

    Its scheduler died, or was cut off: its fence is no longer the job's newest, or the job's lease
    is over by the database's clock.
    """

    run: CronRun
    interrupted: bool


class Overview(NamedTuple):
    """A job now. `job` is None for one that was never begun; `lease_left_ms` is less than 0 for one
    that nobody runs; `last` is its newest attempt, or slot passed over."""

    job: CronJob | None
    lease_left_ms: int
    now_s: float
    last: Entry | None


def overview(session: Session, *, job: str) -> Overview:
    """What a list of jobs shows of one."""
    row = session.get(CronJob, job)
    now_ms = session.scalar(select(db_now_ms())) or 0
    last = history(session, job=job, limit=1)
    left_ms = row.lease_until - now_ms if row else -1
    return Overview(row, left_ms, now_ms / 1000, last[0] if last else None)


def history(session: Session, *, job: str, limit: int) -> list[Entry]:
    """The job's newest attempts and missed slots, the newest first."""
    is_live = exists().where(
        CronJob.job == CronRun.job,
        CronJob.fence == CronRun.fence,
        CronJob.lease_until >= db_now_ms(),
    )
    newest_first = (CronRun.slot.desc(), CronRun.attempt.desc())
    entries = (
        select(CronRun, CronRun.outcome.is_(None) & ~is_live)
        .where(CronRun.job == job)
        .order_by(*newest_first)
        .limit(limit)
    )
    return [Entry(run, interrupted) for run, interrupted in session.execute(entries)]
