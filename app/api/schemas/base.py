"""The bases of every schema, and the types that more than one of them uses."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from app.services.cursors import CURSOR_MAX
from app.services.task_query import LIMIT_DEFAULT, LIMIT_MAX

_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:")


def _without_nul(value: str) -> str:
    """PostgreSQL stores no NUL in text; SQLite would, so both refuse it here."""
    if "\0" in value:
        raise ValueError("Must not hold a NUL character")
    return value


def _written_out(value: Any) -> Any:
    """Pydantic would also read a number as seconds since 1970."""
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("Must be a date, a time and an offset, such as 2026-03-31T17:00:00Z")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_without_nul)]
Time = Annotated[AwareDatetime, BeforeValidator(_written_out)]


def left_out(**constraints: Any) -> Any:
    """A field that may be left out but, if its type says so, not be null: for patches."""
    return Field(None, **constraints)


class Body(BaseModel):
    """A request's body. Unknown fields are refused: a mistyped one must not look like a success."""

    model_config = ConfigDict(extra="forbid")


class Parameters(BaseModel):
    """Query parameters or headers.

    The schema layer asks for the model's JSON schema on every request, which costs more than the
    whole rest of the request; so it is made once for each class.
    """

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return _json_schema(cls, *args, **kwargs)


class Query(Parameters):
    """Query parameters. An unknown one is refused: a filter that is not applied misleads."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """What an answer looks like. It documents and, in the tests, checks; it converts nothing."""

    model_config = ConfigDict(extra="forbid")


class PageQuery(Query):
    """Where a list begins and how long its pages are."""

    cursor: Text | None = Field(
        None, max_length=CURSOR_MAX, description="`next_cursor` of the page before."
    )
    limit: int = Field(LIMIT_DEFAULT, ge=1, le=LIMIT_MAX, description="Items a page.")


class ProjectPath(BaseModel):
    """The address of one project."""

    project_id: UUID


class MemberPath(ProjectPath):
    """The address of one member of a project, by its account."""

    member_id: UUID


class SentInvitationPath(ProjectPath):
    """The address of one invitation to a project."""

    sent_invitation_id: UUID


class InvitationPath(BaseModel):
    """The address of one invitation that the account has received."""

    invitation_id: UUID


class TaskPath(BaseModel):
    """The address of one task."""

    task_id: UUID


@cache
def _json_schema(model: type[Parameters], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return super(Parameters, model).model_json_schema(*args, **kwargs)
