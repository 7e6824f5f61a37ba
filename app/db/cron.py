"""Who may run a job's slot: the fence and the lease. The ledger of attempts: `app.db.cron_ledger`.

The database decides, so this holds with Redis gone. Times of leases are the database's clock in
milliseconds; a slot is the epoch second that a run is for. Rules, in the order of a run:

1. `mint_fence` and `open_run` share the first transaction. No fence, or a slot that has its
   outcome: roll back and leave.
2. Every batch's transaction *begins* with `renew`: it locks the job's row until the batch has
   committed, so a newer fence cannot be minted in between, and an older one finds no row.
3. The last batch's transaction ends with `finish`.

A holder that is stopped inside a batch would keep that lock for ever. `renew` and `mint_fence`
therefore let PostgreSQL end a transaction that is idle for half the lease, and give up waiting
for any row after 5 s at most, so that a scheduler that is asked to stop is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, or_, select, true, update
from sqlalchemy.orm import Session

from app.db.cron_ledger import abandon_older, enter_missed, is_over, trim
from app.db.dialects import bound_waits, insert_into
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun
from app.db.types import db_now, db_now_ms
from app.errors import FencedOut

MOST_LOCK_WAIT_MS = 5_000
# A clock that steps back by less is waited out.
_STEP_S = 60


class Seen(NamedTuple):
    """A job as the database has it now; `slot` is 0 for one that was never begun."""

    now_s: float
    slot: int
    is_open: bool
    paused: bool

    @property
    def is_ahead(self) -> bool:
        return is_ahead(self.slot, self.now_s)


def is_ahead(slot: int, now_s: float) -> bool:
    """Whether a job's newest slot lies in the database's future: then none is ever due.

    No slot begins before its time, so the database's clock was ahead, or is behind now.
    """
    return slot - now_s > _STEP_S


def seen(session: Session, *, job: str) -> Seen:
    """The job's newest slot and whether it has no outcome yet, with the clock that judges it.

    Slots are cut from this clock: by its own, a scheduler that runs ahead would begin slots that
    nobody else can see, and pass over those in between.
    """
    columns = (CronJob.slot, is_over(job, CronJob.slot), CronJob.paused)
    found = session.execute(select(*columns).where(CronJob.job == job))
    slot, over, paused = found.one_or_none() or (0, True, False)
    now_ms = session.scalar(select(db_now_ms())) or 0
    return Seen(now_ms / 1000, slot, bool(slot and not over), paused)


def mint_fence(session: Session, *, job: str, slot: int, holder: str, ttl_ms: int) -> int | None:
    """Take the job's lease for `slot` and return its fence, one higher than any before.

    Never waits for another holder: None means that the job is taken, paused, or past this slot,
    or that the slot lies in the future.
    """
    _bound_run(session, ttl_ms)
    if not _lock_row(session, job):
        return None
    claim = (
        update(CronJob)
        .where(CronJob.job == job, *_is_free(slot))
        .where(db_now_ms() >= slot * 1000)
        .values(fence=CronJob.fence + 1, holder=holder, slot=slot, lease_until=db_now_ms() + ttl_ms)
        .returning(CronJob.fence)
    )
    return session.scalar(claim)


def renew(session: Session, *, job: str, fence: int, ttl_ms: int) -> bool:
    """Push the lease `ttl_ms` ahead and hold the job's row until this transaction ends.

    Returns: True if the job was paused meanwhile: do no batch, and give the slot back.

    Raises:
        FencedOut: a newer fence exists. Roll back and stop.
    """
    _bound_run(session, ttl_ms)
    return _set_lease(session, job, fence, db_now_ms() + ttl_ms)


def finish(session: Session, *, job: str, slot: int, fence: int, outcome: Outcome) -> None:
    """Write the attempt's outcome and free the lease, in the transaction of the last batch.

    Raises:
        FencedOut: a newer fence exists, or the attempt has an outcome that is not ours.
    """
    _set_lease(session, job, fence, 0)
    ended = session.scalar(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot == slot, CronRun.fence == fence)
        .where(CronRun.outcome.is_(None))
        .values(outcome=outcome, ended_at=db_now(), heartbeat_at=db_now())
        .returning(CronRun.slot)
    )
    if ended is None:
        raise FencedOut(f"The slot {slot} of {job} was ended by another run.")


def pass_over(session: Session, *, job: str, instance: str, slots: Sequence[int]) -> int:
    """Enter slots as missed without running any, and move the job past them.

    Returns: how many were entered; 0 too if another scheduler is at it, or was.
    """
    newest = slots[-1]
    if not _lock_row(session, job):
        return 0
    moved = session.scalar(
        update(CronJob)
        .where(CronJob.job == job, *_is_free(newest))
        .values(slot=newest)
        .returning(CronJob.slot)
    )
    if moved is None:
        return 0
    abandon_older(session, job=job, slot=newest + 1)
    entered = enter_missed(session, job=job, instance=instance, slots=slots)
    trim(session, job=job, slot=newest)
    return entered


def set_back(session: Session, *, job: str, ttl_ms: int, anew: bool = False) -> int | None:
    """Put a job that is ahead of the database's clock back to the newest slot that has begun.

    Safe whichever way the clock is wrong: no outcome of a slot that ran is forgotten, so that none
    is committed again, and whoever still works under the old fence loses it to the next. Slots
    that were only passed over ahead of their time leave the ledger, to be run in their time.

    Args:
        ttl_ms: the job's lease. One that goes further than this is a dead run's, from ahead.
        anew: where the ledger has no slot that has begun, treat the job as new. An operator has to
            say so: it may be the clock that is behind, further than the ledger goes back.

    Returns: the slot; None if nothing was changed: a run goes on, or there is no such slot.
    """
    if not _lock_row(session, job):
        return None
    begun = CronRun.slot * 1000 <= db_now_ms()
    newest = select(func.max(CronRun.slot)).where(CronRun.job == job, begun).scalar_subquery()
    lease = CronJob.lease_until
    back = session.scalar(
        update(CronJob)
        .where(CronJob.job == job, CronJob.slot * 1000 > db_now_ms() + _STEP_S * 1000)
        .where(or_(lease < db_now_ms(), lease > db_now_ms() + ttl_ms))
        .where(true() if anew else newest.is_not(None))
        .values(slot=func.coalesce(newest, 0), lease_until=0)
        .returning(CronJob.slot)
    )
    if back is not None:
        missed = (CronRun.job == job, CronRun.outcome == Outcome.MISSED)
        session.execute(delete(CronRun).where(*missed, ~begun))
    return back


def set_paused(session: Session, *, job: str, paused: bool) -> None:
    """Hold a job back, or let it go on. A run under way gives its slot back after its batch.

    Raises:
        LockBusy: a batch took longer than one waits for it.
    """
    bound_waits(session, lock_timeout=MOST_LOCK_WAIT_MS)
    row = {"job": job, "fence": 0, "holder": "", "slot": 0, "lease_until": 0, "paused": paused}
    entry = insert_into(session, CronJob).values(row)
    session.execute(
        entry.on_conflict_do_update(index_elements=[CronJob.job], set_={"paused": paused})
    )


def _is_free(slot: int) -> tuple[ColumnElement[bool], ...]:
    """Nobody holds the job, and it is not past `slot`."""
    return (CronJob.lease_until < db_now_ms(), CronJob.slot <= slot, CronJob.paused.is_(False))


def _lock_row(session: Session, job: str) -> bool:
    """Make sure that the job's row exists, and lock it; False if someone else has it.

    SKIP LOCKED is NOWAIT without the error that would spoil the transaction. The insert comes
    second, and only for a job never seen: it would wait for whoever is updating the row.
    """
    lock = select(CronJob.job).where(CronJob.job == job).with_for_update(skip_locked=True)
    if session.scalar(lock) is not None:
        return True
    if session.scalar(select(CronJob.job).where(CronJob.job == job)) is not None:
        return False
    new = insert_into(session, CronJob).values(
        job=job, fence=0, holder="", slot=0, lease_until=0, paused=False
    )
    session.execute(new.on_conflict_do_nothing())
    return session.scalar(lock) is not None


def _set_lease(session: Session, job: str, fence: int, until: object) -> bool:
    """Move the lease's end; returns whether the job is paused."""
    mine = update(CronJob).where(CronJob.job == job, CronJob.fence == fence)
    paused = session.scalar(mine.values(lease_until=until).returning(CronJob.paused))
    if paused is None:
        raise FencedOut(f"The fence {fence} of {job} is no longer the newest.")
    return bool(paused)


def _bound_run(session: Session, ttl_ms: int) -> None:
    idle_ms = max(1, ttl_ms // 2)
    lock_ms = min(idle_ms, MOST_LOCK_WAIT_MS)
    bound_waits(session, idle_in_transaction_session_timeout=idle_ms, lock_timeout=lock_ms)
