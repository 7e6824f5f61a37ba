"""The table of jobs. A further job is one more row, and a function that does one batch of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.bootstrap import Container
from app.scheduler.schedules import Every, Schedule
from app.scheduler.turns import Missed
from app.services.sweep import SweepService


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch did: `rows` changed, and whether nothing was left for another batch.

    `after_commit` runs once the batch has committed, such as an invalidation.
    """

    rows: int
    finished: bool
    after_commit: Callable[[], None] = lambda: None


Work = Callable[[Session, bool], Step]
"""One batch in the caller's transaction; the flag says whether to wait for rows others hold."""

Count = Callable[[Session], int]
"""How many rows there are to do, for the progress that operators see."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the table.

    Attributes:
        schedule: when its slots begin; `Every(3600)`, or `Cron("0 9 * * 1-5", "Europe/Berlin")`.
        ttl_ms: how long a run may be silent before another scheduler takes its slot up.
        missed: what becomes of slots that nobody began in time.
        grace_s: a slot that began longer ago is never begun.
        work: does one batch. It may run again after a crash: what it did must be its cursor.
        count: how much there is to do when an attempt begins, if it can tell.
    """

    name: str
    schedule: Schedule
    ttl_ms: int
    missed: Missed
    grace_s: int
    work: Work
    count: Count | None = None


def table(container: Container) -> tuple[Job, ...]:
    """Every job of this service."""
    settings = container.settings
    return (
        Job(
            name="overdue",
            schedule=Every(settings.sweep_period_s),
            ttl_ms=settings.sweep_lock_ttl_s * 1000,
            missed=Missed(settings.sweep_missed),
            grace_s=settings.sweep_grace_s,
            work=_overdue(container.sweep, settings.sweep_batch),
            count=container.sweep.count,
        ),
    )


def _overdue(sweep: SweepService, size: int) -> Work:
    def mark(session: Session, wait: bool) -> Step:
        batch = sweep.run_batch(session, now_limit=size, skip_locked=not wait)
        finished = batch.rows < size and not sweep.remaining(session)
        return Step(batch.rows, finished, lambda: sweep.invalidate(batch.project_ids))

    return mark
