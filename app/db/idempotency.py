"""POSTs that were done, by the key that their sender gave them, each with its answer.

The row is written by the transaction that does the work, and first: whoever comes with the same key
waits for that transaction at the unique index, and then finds the answer, or is the first.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.dialects import bound_waits, insert_into
from app.db.faults import explained
from app.db.models import IdempotencyKey
from app.db.types import db_now_ms, new_id
from app.errors import LockBusy

KEPT_MS = 24 * 3_600_000
"""For so long at least a key is known, milliseconds."""

MOST_WAIT_MS = 2_000
"""For so long one waits for the first request with the same key, milliseconds."""

_FORGOTTEN_AT_ONCE = 100
_RUNNING = "The first request with this Idempotency-Key is still running; try again."


class Asked(NamedTuple):
    """Which request it is. `fingerprint` tells whether one with the same key is the same."""

    account_id: UUID
    method: str
    path: str
    key: str
    fingerprint: str


class Kept(NamedTuple):
    """The answer of a request that was done. `stale`: pairs of namespaces and tags."""

    fingerprint: str
    status: int
    body: bytes
    location: str | None
    etag: str | None
    stale: list[tuple[list[str], list[str]]]


def claim(session: Session, asked: Asked) -> Kept | None:
    """The answer that the key has, or None: then it is this transaction's to do and to `keep`.

    Raises:
        LockBusy: whoever has the key has not committed for 2 s.
    """
    row = {"id": new_id(), **asked._asdict(), "created_ms": db_now_ms()}
    first = insert_into(session, IdempotencyKey).values(row).on_conflict_do_nothing()
    bound_waits(session, lock_timeout=MOST_WAIT_MS)
    try:
        made = session.scalar(first.returning(IdempotencyKey.id))
    except DBAPIError as error:
        if isinstance(explained(error), LockBusy):
            raise LockBusy(_RUNNING) from error
        raise
    if made is not None:
        bound_waits(session, lock_timeout=0)
        return None
    columns = [getattr(IdempotencyKey, name) for name in Kept._fields]
    found = session.execute(select(*columns).where(*_mine(asked))).one_or_none()
    if found is None:  # forgotten between the two statements
        raise LockBusy(_RUNNING)
    return Kept(*found)


def keep(session: Session, asked: Asked, answer: Kept) -> None:
    """Write the answer down, in the transaction that claimed the key."""
    mine = update(IdempotencyKey).where(*_mine(asked))
    session.execute(mine.values(**answer._asdict()))


def forget_old(session: Session) -> None:
    """Delete some of the keys that are older than a day, but for those that others are at."""
    old = (
        select(IdempotencyKey.id)
        .where(IdempotencyKey.created_ms < db_now_ms() - KEPT_MS)
        .order_by(IdempotencyKey.created_ms)
        .limit(_FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone = delete(IdempotencyKey).where(IdempotencyKey.id.in_(old))
    session.execute(gone.execution_options(synchronize_session=False))


def _mine(asked: Asked) -> list[ColumnElement[bool]]:
    return [
        getattr(IdempotencyKey, name) == getattr(asked, name)
        for name in ("account_id", "method", "path", "key")
    ]
