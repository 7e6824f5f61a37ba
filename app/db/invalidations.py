"""The outbox of what changes made stale: written with them, told to Redis by whoever comes by.

Rows are chosen by their state and never by their order: transactions commit out of order. They are
kept after they were told, because a server that was cut off and is still read has its own history.
What each history was told stands by itself: two that are read at once would else undo each other's.

A row is over, told or not, when no entry is left that could show what its change replaced. Such an
entry was loaded before the commit. In Redis it lives for the longest TTL from its store, in a
process no longer than in Redis (and where Redis had no answer, for 5 s); from the row to its commit
and from a load to its store is less than the two minutes that are added, for a statement ends
within 30 s. How old a row is two clocks must say, the database's by `created_ms` and this
process's by the writer's in `id`: one that jumps ahead alone ends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from app.db.models import Invalidation
from app.db.types import db_now_ms, least_id, new_id

_BEFORE = 3 * 41 - 1  # characters of `told_before`: three replication ids

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


def pending(
    session: Session, *, history: str, least_age_ms: int, most_age_ms: int, limit: int
) -> list[Pending]:
    """Records that `history` may not have, but for those of the last moment, whose writer is at it.

    Args:
        history: the replication id of the server that is read here.
        most_age_ms: records beyond it are over, as `forget_old` has it.
    """
    columns = (Invalidation.id, Invalidation.namespaces, Invalidation.tags)
    told, before = Invalidation.told, Invalidation.told_before
    elsewhere = or_(told.is_(None), told < history, told > history)
    not_before = or_(before.is_(None), not_(before.contains(history, autoescape=True)))
    rows = session.execute(
        select(*columns)
        .where(elsewhere, not_before, _left_by_writer(least_age_ms), not_(_over(most_age_ms)))
        .limit(limit)
    )
    return [Pending(row.id, tuple(row.namespaces), tuple(row.tags)) for row in rows]


def mark_told(session: Session, ids: Iterable[UUID], *, history: str) -> None:
    """`history` has them, as the ones that had them before still do."""
    told, before = Invalidation.told, Invalidation.told_before
    earlier = func.substr(told + " " + func.coalesce(before, ""), 1, _BEFORE)
    mine = update(Invalidation).where(Invalidation.id.in_(list(ids)))
    marked = mine.values(told=history, told_before=case((told != history, earlier), else_=before))
    session.execute(marked.execution_options(synchronize_session=False))


def forget_old(session: Session, *, age_ms: int, limit: int) -> int:
    """Delete records that no entry is old enough for, told or not; returns how many."""
    old = select(Invalidation.id).where(_over(age_ms)).limit(limit)
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
            Invalidation.told.is_(None), _left_by_writer(least_age_ms)
        )
    ).one()
    return Untold(count, max(0, now_ms - oldest) if count else 0)


def _left_by_writer(least_age_ms: int) -> ColumnElement[bool]:
    """Also a record of the future: the clock was set back, or a promoted standby's is behind."""
    created_ms, now_ms = Invalidation.created_ms, db_now_ms()
    return or_(created_ms <= now_ms - least_age_ms, created_ms > now_ms)


def _over(age_ms: int) -> ColumnElement[bool]:
    made_before = least_id(int(time.time() * 1000) - age_ms)
    return and_(Invalidation.created_ms < db_now_ms() - age_ms, Invalidation.id < made_before)
