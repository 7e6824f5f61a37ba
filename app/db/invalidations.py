"""The outbox of what changes made stale: written with them, told to Redis by whoever comes by.

Rows are chosen by their state and never by their order: transactions commit out of order. They are
kept after they were told, because a server that was cut off and is still read has its own history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast
from uuid import UUID

from sqlalchemy import Table, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.db.models import Invalidation
from app.db.types import db_now_ms, new_id

# On every write's path: built once, and of the table, which spares what the ORM does for an INSERT.
_RECORD = insert(cast(Table, Invalidation.__table__)).values(
    id=bindparam("id"),
    namespaces=bindparam("namespaces"),
    tags=bindparam("tags"),
    told=bindparam("told"),
    created_ms=db_now_ms(),
)


class Pending(NamedTuple):
    """A record that a history of writes may not have."""

    id: UUID
    namespaces: tuple[str, ...]
    tags: tuple[str, ...]


def record(session: Session, namespaces: Sequence[str], tags: Sequence[str]) -> UUID:
    """Write down, in the change's own transaction, what it makes stale."""
    found = new_id()
    row = {"id": found, "namespaces": list(namespaces), "tags": list(tags), "told": None}
    session.execute(_RECORD, row)
    return found


def pending(session: Session, *, history: str, least_age_ms: int, limit: int) -> list[Pending]:
    """Records that `history` may not have, but for those of the last moment, whose writer is at it.

    Args:
        history: the replication id of the server that is read here.
    """
    columns = (Invalidation.id, Invalidation.namespaces, Invalidation.tags)
    elsewhere = or_(
        Invalidation.told.is_(None), Invalidation.told < history, Invalidation.told > history
    )
    rows = session.execute(
        select(*columns)
        .where(elsewhere, Invalidation.created_ms <= db_now_ms() - least_age_ms)
        .limit(limit)
    )
    return [Pending(row.id, tuple(row.namespaces), tuple(row.tags)) for row in rows]


def mark_told(session: Session, ids: Iterable[UUID], *, history: str) -> None:
    """`history` has them."""
    mine = update(Invalidation).where(Invalidation.id.in_(list(ids)))
    session.execute(mine.values(told=history).execution_options(synchronize_session=False))


def forget_old(session: Session, *, age_ms: int, limit: int) -> int:
    """Delete records that were told and that no entry is old enough for; returns how many."""
    old = (
        select(Invalidation.id)
        .where(Invalidation.created_ms < db_now_ms() - age_ms, Invalidation.told.is_not(None))
        .limit(limit)
    )
    gone = session.scalars(
        delete(Invalidation).where(Invalidation.id.in_(old)).returning(Invalidation.id)
    )
    return len(gone.all())


class Untold(NamedTuple):
    """Records that no history has: how many, and the oldest one's age in ms (0 without any)."""

    records: int
    oldest_ms: int


def untold(session: Session, *, least_age_ms: int) -> Untold:
    """What Redis is not known to have been told, but for the records of the last moment."""
    now_ms = session.scalar(select(db_now_ms())) or 0
    count, oldest = session.execute(
        select(func.count(), func.min(Invalidation.created_ms)).where(
            Invalidation.told.is_(None), Invalidation.created_ms <= now_ms - least_age_ms
        )
    ).one()
    return Untold(count, max(0, now_ms - oldest) if count else 0)
