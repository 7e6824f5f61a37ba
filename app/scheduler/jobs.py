"""The table of jobs. A further job is one more row, and a function that does one batch of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.bootstrap import Container
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


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the table.

    `period_s`: a slot begins at every multiple of it since the epoch, seconds. `ttl_ms`: how long
    a run may be silent before another scheduler takes its slot up. `work` does one batch.
    """

    name: str
    period_s: int
    ttl_ms: int
    work: Work

    def slot_at(self, now_s: float) -> int:
        """The slot that is due at `now_s`, the latest that has begun; seconds since the epoch."""
        return int(now_s // self.period_s) * self.period_s


def table(container: Container) -> tuple[Job, ...]:
    """Every job of this service."""
    settings = container.settings
    return (
        Job(
            name="overdue",
            period_s=settings.sweep_period_s,
            ttl_ms=settings.sweep_lock_ttl_s * 1000,
            work=_overdue(container.sweep, settings.sweep_batch),
        ),
    )


def _overdue(sweep: SweepService, size: int) -> Work:
    def mark(session: Session, wait: bool) -> Step:
        batch = sweep.run_batch(session, now_limit=size, skip_locked=not wait)
        finished = batch.rows < size and not sweep.remaining(session)
        return Step(batch.rows, finished, lambda: sweep.invalidate(batch.project_ids))

    return mark
