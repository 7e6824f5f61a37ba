"""The ledger of scheduled runs: one row for each attempt at a slot, and one for each slot missed.

A slot is the epoch second that a run is for. Whoever writes here has the job's row locked, by
`mint_fence` or `renew` (`app.db.cron`), so that nobody else is entering anything of that job.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.dialects import insert_into
from app.db.enums import FINAL, Outcome
from app.db.models import CronRun
from app.db.types import db_now

# A clock that is wrong cannot make a ledger forget what is counted, as it could what is dated.
KEPT = 10_000
# More than one turn can add: the slots that it passes over (`MOST_MISSED`), and its attempt.
TRIMMED_AT_ONCE = 2_000


def open_run(session: Session, *, job: str, slot: int, fence: int, instance: str) -> bool:
    """Enter the slot's next attempt in the ledger; False if the slot has its outcome already.

    An attempt that was open is fenced out by this one. One that did nothing and gave the slot back
    is gone on with in its row: while others hold a job's rows every look is such a one.
    """
    if has_outcome(session, job=job, slot=slot):
        return False
    mine = (CronRun.job == job, CronRun.slot == slot)
    session.execute(
        update(CronRun)
        .where(*mine, CronRun.outcome.is_(None))
        .values(outcome=Outcome.FENCED_OUT, ended_at=db_now())
    )
    last = session.scalar(select(func.max(CronRun.attempt)).where(*mine)) or 0
    entry = _entry(job, slot, last + 1, fence, instance)
    begun = {**entry, "attempt": last, "outcome": None, "ended_at": None, "total": None}
    gone_on_with = session.scalar(
        update(CronRun)
        .where(*mine, CronRun.attempt == last)
        .where(CronRun.outcome == Outcome.STOPPED, CronRun.rows == 0)
        .values(begun)
        .returning(CronRun.attempt)
    )
    if gone_on_with is None:
        session.execute(insert_into(session, CronRun).values(entry))
    return True


def heartbeat(
    session: Session, *, job: str, slot: int, fence: int, rows: int, total: int | None = None
) -> None:
    """Note in the ledger that the attempt lives, and `rows` more that it has done."""
    session.execute(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot == slot, CronRun.fence == fence)
        .values(rows=CronRun.rows + rows, total=total, heartbeat_at=db_now())
    )


def enter_missed(session: Session, *, job: str, instance: str, slots: Sequence[int]) -> int:
    """Enter slots that are passed over as `missed`, but for those that have an outcome.

    Call it with the job's row locked, after `abandon_older`. Returns: how many were entered.
    """
    if not slots:
        return 0
    entries = [
        {**_entry(job, slot, 0, 0, instance), "outcome": Outcome.MISSED, "ended_at": db_now()}
        for slot in slots
    ]
    missed = insert_into(session, CronRun).values(entries).on_conflict_do_nothing()
    return len(session.scalars(missed.returning(CronRun.slot)).all())


def abandon_older(session: Session, *, job: str, slot: int) -> int:
    """End the slot before `slot` as `abandoned` if it has no outcome; returns how many that were.

    Every claim does this, so that no slot further back can be without one.
    """
    newest_first = (CronRun.slot.desc(), CronRun.attempt.desc())
    last = session.execute(
        select(CronRun.slot, CronRun.attempt)
        .where(CronRun.job == job, CronRun.slot < slot)
        .order_by(*newest_first)
        .limit(1)
    ).first()
    if last is None or has_outcome(session, job=job, slot=last.slot):
        return 0
    session.execute(
        update(CronRun)
        .where(CronRun.job == job, CronRun.slot == last.slot, CronRun.attempt == last.attempt)
        .values(outcome=Outcome.ABANDONED, ended_at=db_now())
    )
    return 1


def trim(session: Session, *, job: str, slot: int) -> None:
    """Forget the job's oldest slots; the newest `KEPT` rows of slots up to `slot` stay.

    `slot` is the one that the job is at. What goes is older than all that stays, so that of every
    slot after one that the ledger has, it still knows whether it is over.
    """
    newest_first = (CronRun.slot.desc(), CronRun.attempt.desc())
    known = select(CronRun.slot).where(CronRun.job == job, CronRun.slot <= slot)
    first_kept = known.order_by(*newest_first).offset(KEPT).limit(1).scalar_subquery()
    oldest = (
        select(CronRun.slot, CronRun.attempt)
        .where(CronRun.job == job, CronRun.slot < first_kept)
        .order_by(CronRun.slot, CronRun.attempt)
        .limit(TRIMMED_AT_ONCE)
    )
    key = tuple_(CronRun.slot, CronRun.attempt)
    session.execute(delete(CronRun).where(CronRun.job == job, key.in_(oldest)))


def has_outcome(session: Session, *, job: str, slot: int) -> bool:
    """Whether the slot is over, well or badly."""
    return bool(session.scalar(select(is_over(job, slot))))


def is_over(job: str, slot: int | InstrumentedAttribute[int]) -> ColumnElement[bool]:
    return exists().where(CronRun.job == job, CronRun.slot == slot, CronRun.outcome.in_(FINAL))


def _entry(job: str, slot: int, attempt: int, fence: int, instance: str) -> dict[str, object]:
    return {
        "job": job,
        "slot": slot,
        "attempt": attempt,
        "fence": fence,
        "instance": instance,
        "started_at": db_now(),
        "heartbeat_at": db_now(),
        "rows": 0,
    }
