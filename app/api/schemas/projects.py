"""Projects and their figures, in and out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.schemas.base import Body, Line, PageQuery, Text, View, left_out
from app.db.enums import MemberRole, Priority, TaskStatus
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


class Transfer(Body):
    """Who is to own the project."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"member_id": "01980000-0000-7000-8000-000000000001"}]}
    )

    member_id: UUID = Field(description="A member's account.")


class ProjectFilters(PageQuery):
    """Which projects. All filters given must hold."""

    shared: bool | None = Field(None, description="Only others' projects, or only one's own.")
    archived: bool | None = Field(None, description="Only archived projects, or only others.")


class Project(View):
    """A project. Its version moves with its members, too."""

    id: UUID
    name: str
    description: str
    owner_id: UUID
    role: MemberRole = Field(description="The reader's own.")
    version: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = Field(description="Since when it can only be read.")


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
