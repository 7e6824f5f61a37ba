"""Who may run a job's slot: the fence, the lease and the ledger of runs.

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

from sqlalchemy import exists, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.enums import Outcome
from app.db.models import CronJob, CronRun
from app.db.types import db_now, db_now_ms
from app.errors import FencedOut

# A scheduler whose clock runs ahead of the database's by more than this claims no slot: the slots
# of all others would lie behind its own, until their clocks caught up.
MOST_AHEAD_MS = 120_000
_MOST_LOCK_WAIT_MS = 5_000


def mint_fence(session: Session, *, job: str, slot: int, holder: str, ttl_ms: int) -> int | None:
    """Take the job's lease for `slot` and return its fence, one higher than any before.

    Never waits for another holder: None means that the job is taken, paused, or past this slot,
    or that the slot lies in the future.
    """
    _bound_waits(session, ttl_ms)
    if not _lock_row(session, job):
        return None
    claim = (
        update(CronJob)
        .where(CronJob.job == job, CronJob.paused.is_(False))
        .where(CronJob.lease_until < db_now_ms(), CronJob.slot <= slot)
        .where(db_now_ms() >= slot * 1000 - MOST_AHEAD_MS)
        .values(fence=CronJob.fence + 1, holder=holder, slot=slot, lease_until=db_now_ms() + ttl_ms)
        .returning(CronJob.fence)
    )
    return session.scalar(claim)


def open_run(session: Session, *, job: str, slot: int, fence: int, instance: str) -> bool:
    """Enter the slot's next attempt in the ledger; False if the slot has its outcome already."""
    entry = _insert(session, CronRun).values(
        job=job,
        slot=slot,
        attempt=1,
        fence=fence,
        instance=instance,
        started_at=db_now(),
        heartbeat_at=db_now(),
        rows=0,
    )
    entry = entry.on_conflict_do_update(
        index_elements=[CronRun.job, CronRun.slot],
        set_={
            "attempt": CronRun.attempt + 1,
            "fence": fence,
            "instance": instance,
            "heartbeat_at": db_now(),
        },
        where=CronRun.outcome.is_(None),
    )
    return session.scalar(entry.returning(CronRun.attempt)) is not None


def renew(session: Session, *, job: str, fence: int, ttl_ms: int) -> None:
    """Push the lease `ttl_ms` ahead and hold the job's row until this transaction ends.

    Raises:
        FencedOut: a newer fence exists. Roll back and stop.
    """
    _bound_waits(session, ttl_ms)
    _set_lease(session, job, fence, CronJob.lease_until, db_now_ms() + ttl_ms)


def heartbeat(session: Session, *, job: str, slot: int, rows: int) -> None:
    """Note in the ledger that the run lives, and `rows` more that it has done."""
    session.execute(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot == slot)
        .values(rows=CronRun.rows + rows, heartbeat_at=db_now())
    )


def finish(session: Session, *, job: str, slot: int, fence: int, outcome: Outcome) -> None:
    """Write the slot's outcome and free the lease, in the transaction of the last batch.

    Raises:
        FencedOut: a newer fence exists, or the slot has an outcome that is not ours.
    """
    free_lease(session, job=job, fence=fence)
    done = session.scalar(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot == slot)
        .where(CronRun.fence == fence, CronRun.outcome.is_(None))
        .values(outcome=outcome, ended_at=db_now(), heartbeat_at=db_now())
        .returning(CronRun.slot)
    )
    if done is None:
        raise FencedOut(f"The slot {slot} of {job} was ended by another run.")


def free_lease(session: Session, *, job: str, fence: int) -> None:
    """Give the lease back without an outcome: the next holder goes on with the same slot.

    Raises:
        FencedOut: a newer fence exists, so there is nothing to give back.
    """
    _set_lease(session, job, fence, CronJob.lease_until, 0)


def abandon_older(session: Session, *, job: str, slot: int) -> int:
    """End every open run of a slot before `slot` as `abandoned`; returns how many there were."""
    ended = session.scalars(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot < slot, CronRun.outcome.is_(None))
        .values(outcome=Outcome.ABANDONED, ended_at=db_now())
        .returning(CronRun.slot)
    )
    return len(ended.all())


def has_outcome(session: Session, *, job: str, slot: int) -> bool:
    """Whether the slot is over, well or badly."""
    over = exists().where(CronRun.job == job, CronRun.slot == slot, CronRun.outcome.is_not(None))
    return bool(session.scalar(select(over)))


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
    new = _insert(session, CronJob).values(
        job=job, fence=0, holder="", slot=0, lease_until=0, paused=False
    )
    session.execute(new.on_conflict_do_nothing())
    return session.scalar(lock) is not None


def _set_lease(
    session: Session, job: str, fence: int, column: InstrumentedAttribute[int], until: object
) -> None:
    mine = update(CronJob).where(CronJob.job == job, CronJob.fence == fence)
    if session.scalar(mine.values({column: until}).returning(CronJob.fence)) is None:
        raise FencedOut(f"The fence {fence} of {job} is no longer the newest.")


def _bound_waits(session: Session, ttl_ms: int) -> None:
    if session.get_bind().dialect.name != "postgresql":
        return
    idle_ms = max(1, ttl_ms // 2)
    bounds = {
        "idle_in_transaction_session_timeout": idle_ms,
        "lock_timeout": min(idle_ms, _MOST_LOCK_WAIT_MS),
    }
    for setting, bound_ms in bounds.items():
        session.execute(
            text("SELECT set_config(:name, :value, true)"),
            {"name": setting, "value": f"{bound_ms}ms"},
        )


def _insert(
    session: Session, model: type[CronJob] | type[CronRun]
) -> postgresql.Insert | sqlite.Insert:
    on_postgresql = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(model) if on_postgresql else sqlite.insert(model)
