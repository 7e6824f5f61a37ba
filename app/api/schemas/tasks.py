"""Tasks, in and out. The bounds are `app.services.task_rules`, which checks what stands here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.schemas.base import Body, Line, PageQuery, Text, Time, View, left_out
from app.db.enums import Action, Priority, TaskStatus
from app.services.task_rules import DESCRIPTION_MAX, LABEL_MAX, LABELS_MAX, TITLE_MAX

Label = Annotated[Line, Field(min_length=1, max_length=LABEL_MAX)]


class NewTaskBody(Body):
    """A new task."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"title": "Pay the rent", "priority": "high", "due_at": "2030-01-31T17:00:00Z"}
            ]
        }
    )

    title: Line = Field(min_length=1, max_length=TITLE_MAX)
    description: Text = Field("", max_length=DESCRIPTION_MAX)
    status: TaskStatus = TaskStatus.PENDING
    priority: Priority = Priority.MEDIUM
    due_at: Time | None = None
    labels: list[Label] = Field([], max_length=LABELS_MAX)
    assignee_id: UUID | None = None


class TaskPatch(Body):
    """Changes to a task: only the fields that are sent. `labels` replaces all of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "completed"}]})

    title: Line = left_out(min_length=1, max_length=TITLE_MAX)
    description: Text = left_out(max_length=DESCRIPTION_MAX)
    status: TaskStatus = left_out()
    priority: Priority = left_out()
    due_at: Time | None = None
    labels: list[Label] = left_out(max_length=LABELS_MAX)
    assignee_id: UUID | None = None


class TaskFilters(PageQuery):
    """Which tasks, and in which order. All filters given must hold."""

    status: TaskStatus | None = None
    priority: Priority | None = None
    overdue: bool | None = Field(None, description="Open and past due, marked or not yet.")
    due_before: Time | None = Field(None, description="Exclusive.")
    due_after: Time | None = Field(None, description="Inclusive.")
    order: Literal["created", "-created"] = Field("created", description="Oldest first, or newest.")


class Task(View):
    """A task. Times are in UTC."""

    id: UUID
    project_id: UUID
    title: str
    description: str
    status: TaskStatus
    priority: Priority
    due_at: datetime | None
    assignee_id: UUID | None
    labels: list[str]
    version: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    overdue: bool = Field(description="Whether the hourly sweep has found it late.")
    overdue_at: datetime | None = Field(description="When it did.")


class TaskList(View):
    """A page of tasks."""

    items: list[Task]
    next_cursor: str | None


class FieldChange(View):
    """What one field was, and what it became."""

    model_config = ConfigDict(populate_by_name=True)

    field: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class Change(View):
    """One version of a task: who made it, when, and what it changed."""

    version: int
    account_id: UUID | None = Field(description="Null once the account is gone.")
    action: Action
    changes: list[FieldChange]
    created_at: datetime


class History(View):
    """A page of a task's history."""

    items: list[Change]
    next_cursor: str | None
