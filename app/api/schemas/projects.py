"""Projects and their figures, in and out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.schemas.base import Body, Line, Text, View, left_out
from app.db.enums import Priority, TaskStatus
from app.services.projects import DESCRIPTION_MAX, NAME_MAX


class NewProject(Body):
    """A new project."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "House", "description": "Move by June."}]}
    )

    name: Line = Field(min_length=1, max_length=NAME_MAX)
    description: Text = Field("", max_length=DESCRIPTION_MAX)


class ProjectPatch(Body):
    """Changes to a project: only the fields that are sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "House and garden"}]})

    name: Line = left_out(min_length=1, max_length=NAME_MAX)
    description: Text = left_out(max_length=DESCRIPTION_MAX)


class Project(View):
    """A project."""

    id: UUID
    name: str
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class ProjectList(View):
    """A page of projects."""

    items: list[Project]
    next_cursor: str | None


class Stats(View):
    """A project's tasks, counted."""

    total: int
    open: int
    overdue: int = Field(description="Open and past due, marked or not yet.")
    due_in_7_days: int
    by_status: dict[TaskStatus, int]
    by_priority: dict[Priority, int]
