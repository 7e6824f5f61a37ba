"""The history of tasks: who made which version, when, and what it changed.

Written in the transaction that makes the version, so that neither is without the other. The sweep
writes none: its mark is in the task, and in the history once a change takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.enums import Action
from app.db.models import Task, TaskHistory
from app.db.queries import after, seen_tasks
from app.errors import NotFound
from app.services.actor import Actor
from app.services.cursors import decode_version, encode_cursor
from app.services.views import ChangeView, FieldChange, Page, change_view

_ORDER = "-version"


class HistoryService:
    """Each account reads the history of the tasks that it may see."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def list(
        self, actor: Actor, task_id: UUID, *, cursor: str | None, limit: int
    ) -> Page[ChangeView]:
        """What was done to a task, newest first.

        Raises:
            NotFound: it is not there, or the actor is no member of its project.
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_version(cursor, order=_ORDER)
        rows = select(TaskHistory).where(TaskHistory.task_id == task_id)
        page = after(rows, TaskHistory.version, last, falling=True).limit(limit + 1)
        with self._db.read() as session:
            seen = seen_tasks(actor.account_id).where(Task.id == task_id)
            if session.scalar(seen.with_only_columns(Task.id)) is None:
                raise NotFound("task")
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [change_view(row) for row in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1].version) if more else None,
        }


def write_change(
    session: Session, actor: Actor, task: Task, action: Action, changes: Sequence[FieldChange]
) -> None:
    """What the actor made of `task`, which has its new version already."""
    row = _row(task.id, task.version, actor.account_id, action, changes, task.updated_at)
    session.execute(insert(TaskHistory), [row])


def write_creations(session: Session, actor: Actor, tasks: Sequence[Mapping[str, Any]]) -> None:
    """That the actor created these rows of tasks."""
    rows = [
        _row(task["id"], task["version"], actor.account_id, Action.CREATED, [], task["created_at"])
        for task in tasks
    ]
    session.execute(insert(TaskHistory), rows)


def write_unassigned(
    session: Session, actor: Actor, versions: Mapping[UUID, int], was: UUID, now: datetime
) -> None:
    """That tasks, by their new versions, lost their assignee with its membership."""
    lost: list[FieldChange] = [{"field": "assignee_id", "from": str(was), "to": None}]
    rows = [
        _row(task_id, version, actor.account_id, Action.UNASSIGNED, lost, now)
        for task_id, version in versions.items()
    ]
    session.execute(insert(TaskHistory), rows)


def _row(
    task_id: UUID,
    version: int,
    account_id: UUID,
    action: Action,
    changes: Sequence[FieldChange],
    at: datetime,
) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "version": version,
        "account_id": account_id,
        "action": action,
        "changes": list(changes),
        "created_at": at,
    }
