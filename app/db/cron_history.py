"""The jobs and their ledger as operators read them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import exists, select, true
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
    that nobody runs; `last` is the newest attempt, or slot passed over, up to where the job is."""

    job: CronJob | None
    lease_left_ms: int
    now_s: float
    last: Entry | None


def overview(session: Session, *, job: str) -> Overview:
    """What a list of jobs shows of one."""
    row = session.get(CronJob, job)
    now_ms = session.scalar(select(db_now_ms())) or 0
    if row is None:
        return Overview(None, -1, now_ms / 1000, None)
    last = history(session, job=job, limit=1, up_to=row.slot)
    return Overview(row, row.lease_until - now_ms, now_ms / 1000, last[0] if last else None)


def history(session: Session, *, job: str, limit: int, up_to: int | None = None) -> list[Entry]:
    """The job's newest attempts and missed slots, the newest first; none of slots after `up_to`."""
    is_live = exists().where(
        CronJob.job == CronRun.job,
        CronJob.fence == CronRun.fence,
        CronJob.lease_until >= db_now_ms(),
    )
    newest_first = (CronRun.slot.desc(), CronRun.attempt.desc())
    entries = (
        select(CronRun, CronRun.outcome.is_(None) & ~is_live)
        .where(CronRun.job == job, true() if up_to is None else CronRun.slot <= up_to)
        .order_by(*newest_first)
        .limit(limit)
    )
    return [Entry(run, interrupted) for run, interrupted in session.execute(entries)]
