"""Counts of a project's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, func, select

from app.db.engine import Database
from app.db.enums import OPEN, Priority, TaskStatus
from app.db.models import Task
from app.db.queries import is_late, is_open
from app.db.types import db_now
from app.services.access import see_project
from app.services.actor import Actor
from app.services.encoded import Encoded, encoded
from app.services.ports import AGES_S, LISTS, Cache, member_tag, project_namespace
from app.services.views import StatsView

_SOON = timedelta(days=7)


class StatsService:
    """Each account sees the counts of the projects it is a member of; others are `NotFound`."""

    def __init__(self, db: Database, cache: Cache) -> None:
        self._db = db
        self._cache = cache

    def project(self, actor: Actor, project_id: UUID) -> Encoded[StatsView]:
        """A project's counts, through the cache.

        Raises:
            NotFound: the project is not there, or not the account's.
        """

        def load() -> bytes:
            return encoded(self._load(actor, project_id)).stored()

        namespace, key = project_namespace(project_id), f"stats:{actor.account_id}"
        tags = [LISTS, member_tag(actor.account_id)]
        stored = self._cache.fetch(namespace, key, tags=tags, load=load, ttl_s=AGES_S)
        return Encoded.of_stored(stored)

    def _load(self, actor: Actor, project_id: UUID) -> StatsView:
        with self._db.read() as session:
            see_project(session, actor, project_id)
            return _stats(session.execute(_counts(project_id)).all())


def _counts(project_id: UUID) -> Select[str, str, int, int, int]:
    """One row for each status and priority: its count, and of these the late and the soon due."""
    soon = is_open & (Task.due_at >= db_now()) & (Task.due_at < datetime.now(UTC) + _SOON)
    return (
        select(Task.status, Task.priority, func.count(), _count_of(is_late()), _count_of(soon))
        .where(Task.project_id == project_id)
        .group_by(Task.status, Task.priority)
    )


def _count_of(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)


def _stats(rows: Sequence[Row[str, str, int, int, int]]) -> StatsView:
    by_status = dict.fromkeys(map(str, TaskStatus), 0)
    by_priority = dict.fromkeys(map(str, Priority), 0)
    for status, priority, count, *_ in rows:
        by_status[status] += count
        by_priority[priority] += count
    return {
        "total": sum(by_status.values()),
        "open": sum(by_status[status] for status in OPEN),
        "overdue": sum(row[3] for row in rows),
        "due_in_7_days": sum(row[4] for row in rows),
        "by_status": by_status,
        "by_priority": by_priority,
    }
