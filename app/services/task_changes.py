"""What a change makes of a task: the fields that differ, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.db.enums import OPEN, TaskStatus
from app.db.models import Task, TaskLabel
from app.db.types import new_id
from app.services.task_rules import NewTask
from app.services.views import FieldChange, rfc3339


def task_row(project_id: UUID, new: NewTask) -> dict[str, Any]:
    """The columns of a new task's row."""
    now = datetime.now(UTC)
    return {
        "id": new_id(),
        "project_id": project_id,
        "title": new.title,
        "description": new.description,
        "status": new.status,
        "priority": new.priority,
        "due_at": new.due_at,
        "assignee_id": new.assignee_id,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "completed_at": now if new.status == TaskStatus.COMPLETED else None,
        "overdue_at": None,
    }


def apply(task: Task, values: Mapping[str, Any]) -> list[FieldChange]:
    """Set what differs and make it the next version; returns what changed, or nothing.

    `completed_at` follows the status. The sweep's mark goes with the due time, and once the task
    is not open any more.
    """
    now = datetime.now(UTC)
    wanted = dict(values)
    labels = wanted.pop("labels", None)
    before = {name: getattr(task, name) for name in (*wanted, "status", "due_at", "overdue_at")}
    for name, value in wanted.items():
        setattr(task, name, value)
    if task.status != before["status"]:
        task.completed_at = now if task.status == TaskStatus.COMPLETED else None
    if task.due_at != before["due_at"] or task.status not in OPEN:
        task.overdue_at = None
    changes = [
        change(name, was, getattr(task, name))
        for name, was in before.items()
        if was != getattr(task, name)
    ]
    changes += _relabel(task, labels)
    if changes:
        task.version += 1
        task.updated_at = now
    return changes


def change(field: str, before: Any, after: Any) -> FieldChange:
    """One field's change, as JSON values."""
    return {"field": field, "from": _plain(before), "to": _plain(after)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return rfc3339(value)
    return str(value) if isinstance(value, UUID) else value


def _relabel(task: Task, names: tuple[str, ...] | None) -> list[FieldChange]:
    """Keep the rows of labels that stay: the same key cannot be deleted and inserted at once."""
    before = {label.name: label for label in task.labels}
    if names is None or set(names) == set(before):
        return []
    task.labels = [before.get(name) or TaskLabel(name=name) for name in names]
    return [change("labels", sorted(before), sorted(names))]
