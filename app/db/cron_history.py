"""The jobs and their ledger as operators read them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import CronJob, CronRun
from app.db.types import db_now_ms


class Overview(NamedTuple):
    """A job now. `job` is None for one that was never begun; `lease_left_ms` is 0 or less for one
    that nobody runs; `last` is its newest attempt, or slot passed over."""

    job: CronJob | None
    lease_left_ms: int
    now_s: float
    last: CronRun | None


def overview(session: Session, *, job: str) -> Overview:
    """What a list of jobs shows of one."""
    row = session.get(CronJob, job)
    now_ms = session.scalar(select(db_now_ms())) or 0
    last = history(session, job=job, limit=1)
    left_ms = row.lease_until - now_ms if row else 0
    return Overview(row, left_ms, now_ms / 1000, last[0] if last else None)


def history(session: Session, *, job: str, limit: int) -> list[CronRun]:
    """The job's newest attempts and missed slots, the newest first."""
    newest_first = (CronRun.slot.desc(), CronRun.attempt.desc())
    runs = select(CronRun).where(CronRun.job == job).order_by(*newest_first).limit(limit)
    return list(session.scalars(runs))
