"""A scheduler under trial: the real one, with a clock that is wrong and work that takes its time.

`TRIAL_SKEW_S` is how far its clock is off, `TRIAL_PACE_S` the pause after each batch, where most
kills and stops then fall. `TRIAL_PLANTED` takes a protection out, for the negative controls.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import schedule
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.bootstrap import Container
from app.db import cron
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun, Task
from app.db.queries import is_late
from app.db.types import db_now, db_now_ms
from app.scheduler import __main__ as scheduler
from app.scheduler import jobs
from app.scheduler.jobs import Job, Step, Work
from app.services.sweep import Batch, SweepService, _tell

_real_time = time.time
_pace_s = float(os.environ.get("TRIAL_PACE_S", "0"))
_skew_s = float(os.environ.get("TRIAL_SKEW_S", "0"))


class SkewedDatetime(datetime.datetime):
    """The `schedule` library's clock."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> SkewedDatetime:
        return cls.fromtimestamp(_real_time() + _skew_s, tz)


def skew_the_clock() -> None:
    """Everything that asks this process for the time of day gets a wrong one."""
    time.time = lambda: _real_time() + _skew_s
    skewed = {**vars(datetime), "datetime": SkewedDatetime}
    vars(schedule)["datetime"] = SimpleNamespace(**skewed)


def paced(work: Work) -> Work:
    """`work` with a pause after each batch that is not the last."""

    def batch(session: Session, wait: bool) -> Step:
        step = work(session, wait)

        def committed() -> None:
            step.after_commit()
            time.sleep(0 if step.finished else _pace_s)

        return replace(step, after_commit=committed)

    return batch


def table(container: Container) -> tuple[Job, ...]:
    """The sweep alone: what is judged are its slots."""
    found = jobs.table(container)
    return tuple(replace(job, work=paced(job.work)) for job in found if job.name == "overdue")


def without_the_fence() -> None:
    """Batches go on without asking whether a newer fence exists."""

    def set_lease(session: Session, job: str, fence: int, until: object) -> bool:  # noqa: ARG001
        session.execute(update(CronJob).where(CronJob.job == job).values(lease_until=until))
        return False

    cron._set_lease = set_lease


def without_the_ledger() -> None:
    """No fence, and an outcome is written whatever the ledger says (its index is dropped too)."""
    without_the_fence()

    def finish(session: Session, *, job: str, slot: int, fence: int, outcome: Outcome) -> None:
        cron._set_lease(session, job, fence, 0)
        mine = (CronRun.job == job, CronRun.slot == slot, CronRun.fence == fence)
        session.execute(update(CronRun).where(*mine).values(outcome=outcome, ended_at=db_now()))

    cron.finish = finish


def with_the_local_clock() -> None:
    """Slots are cut from the scheduler's own clock, and the database does not object."""
    seen = cron.seen
    cron.seen = lambda session, *, job: seen(session, job=job)._replace(now_s=time.time())

    def mint_fence(
        session: Session, *, job: str, slot: int, holder: str, ttl_ms: int
    ) -> int | None:
        if not cron._lock_row(session, job):
            return None
        lease_until = db_now_ms() + ttl_ms
        claimed = {"holder": holder, "slot": slot, "lease_until": lease_until}
        claim = update(CronJob).where(CronJob.job == job, *cron._is_free(slot))
        minted = claim.values(fence=CronJob.fence + 1, **claimed).returning(CronJob.fence)
        return session.scalar(minted)

    cron.mint_fence = mint_fence


def with_a_naive_sweep() -> None:
    """No fence, and tasks are chosen first and marked later, whatever became of them."""
    cron.renew = lambda *_, **__: False

    def run_batch(
        self: SweepService,  # noqa: ARG001
        session: Session,
        *,
        limit: int,
        skip_locked: bool = True,  # noqa: ARG001  the replaced one's parameters
    ) -> Batch:
        chosen = select(Task.id).where(is_late(), Task.overdue_at.is_(None))
        with Session(session.get_bind()) as other:
            rows = other.execute(chosen.limit(limit)).all()
        time.sleep(_pace_s)
        ids = [row.id for row in rows]
        session.execute(update(Task).where(Task.id.in_(ids)).values(overdue_at=db_now()))
        session.execute(_tell(select(Task).where(Task.id.in_(ids)).subquery()))
        return Batch(len(ids), None)

    SweepService.run_batch = run_batch  # type: ignore[method-assign]


PLANTED = {
    "": lambda: None,
    "no-fence": without_the_fence,
    "no-ledger": without_the_ledger,
    "local-clock": with_the_local_clock,
    "naive-sweep": with_a_naive_sweep,
}

if __name__ == "__main__":
    vars(scheduler)["table"] = table
    PLANTED[os.environ.get("TRIAL_PLANTED", "")]()
    skew_the_clock()
    sys.exit(scheduler.main())
