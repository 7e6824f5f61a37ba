"""The table of jobs. A further job is one more row, and a function that does one batch of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.bootstrap import Container
from app.scheduler.schedules import Every, Schedule
from app.scheduler.turns import Missed
from app.services.changes import Note
from app.services.sweep import SweepService

_FORGET_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch did: `rows` changed, and whether nothing was left for another batch.

    Fewer rows than asked for are no sign of that where locked ones were passed by: look again.

    `after_commit` runs once the batch has committed, such as an invalidation.
    """

    rows: int
    finished: bool
    after_commit: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if self.rows < 0:  # as a driver's rowcount may be: RETURNING says how many there were
            raise ValueError(f"a batch cannot have changed {self.rows} rows")


Work = Callable[[Session, bool], Step]
"""One batch in the caller's transaction; the flag says whether to wait for rows others hold."""

Count = Callable[[Session], int]
"""How many rows there are to do, for the progress that operators see."""


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the table.

    Attributes:
        name: unique, at most 64 characters; the ledger's and the commands'.
        schedule: when its slots begin; `Every(3600)`, or `Cron("0 9 * * 1-5", "Europe/Berlin")`.
            One scheduler runs its jobs one after the other.
        ttl_ms: the lease: how long a run may be silent before another scheduler takes its slot up.
            PostgreSQL ends a batch that stands still between two statements for half of it.
        missed: what becomes of slots that nobody began in time.
        grace_s: a slot that began longer ago is never begun. A new job begins with its latest slot
            at once, if that is within the grace.
        work: does one batch. It may run again after a crash: what it did must be its cursor.
        count: how much there is to do when an attempt begins, if it can tell.
        after: called once an attempt has ended, however it did.
    """

    name: str
    schedule: Schedule
    ttl_ms: int
    missed: Missed
    grace_s: int
    work: Work
    count: Count | None = None
    after: Callable[[], None] = lambda: None


def table(container: Container) -> tuple[Job, ...]:
    """Every job of this service."""
    settings = container.settings
    overdue = Overdue(container.sweep, settings.sweep_batch)
    return (
        Job(
            name="overdue",
            schedule=Every(settings.sweep_period_s),
            ttl_ms=settings.sweep_lock_ttl_s * 1000,
            missed=Missed(settings.sweep_missed),
            grace_s=settings.sweep_grace_s,
            work=overdue.batch,
            count=container.sweep.count,
            after=overdue.forget,
        ),
    )


class Overdue:
    """The sweep as a job.

    Caches are told of projects at most once a second, and at the end: a large sweep has tasks of
    the same projects in every batch. The bound of 5 s from a commit, after which no cache answers
    with what it replaced, is kept.
    """

    def __init__(self, sweep: SweepService, size: int) -> None:
        self._sweep, self._size = sweep, size
        self._notes: list[Note] = []
        self._forgot_at = 0.0

    def batch(self, session: Session, wait: bool) -> Step:
        done = self._sweep.run_batch(session, limit=self._size, skip_locked=not wait)
        finished = done.rows < self._size and not self._sweep.any_left(session)
        return Step(done.rows, finished, lambda: self._committed(done.note))

    def forget(self) -> None:
        """Tell the caches of all batches that they have not been told of."""
        self._forgot_at = time.monotonic()
        notes, self._notes = self._notes, []
        self._sweep.tell(notes)

    def _committed(self, note: Note | None) -> None:
        self._notes += [note] if note else []
        if time.monotonic() - self._forgot_at >= _FORGET_EVERY_S:
            self.forget()
