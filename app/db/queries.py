"""The statements that decide who sees what. Every one is scoped to an account."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, select
from sqlalchemy.orm import InstrumentedAttribute, selectinload

from app.db.enums import OPEN
from app.db.models import Project, Task
from app.db.types import db_now

Rows = TypeVar("Rows", bound=Select[Any])

# Written into the statement and not bound: a partial index serves only what it can see.
is_open: ColumnElement[bool] = Task.status.in_(
    bindparam("open", OPEN, expanding=True, literal_execute=True)
)


def is_late() -> ColumnElement[bool]:
    """Open, and past its due time by the database's clock; whether marked or not."""
    return is_open & (Task.due_at < db_now())


def own_project(account_id: UUID, project_id: UUID) -> Select[Project]:
    """The project, if the account may see it."""
    return select(Project).where(Project.id == project_id, Project.owner_id == account_id)


def kept_project(account_id: UUID, project_id: UUID) -> Select[Project]:
    """As `own_project`, and the project cannot be deleted until this transaction has ended."""
    return own_project(account_id, project_id).with_for_update(read=True, key_share=True)


def own_task(account_id: UUID, task_id: UUID) -> Select[Task]:
    """The task with its labels, if the account may see it."""
    return (
        select(Task)
        .join(Project, Project.id == Task.project_id)
        .where(Task.id == task_id, Project.owner_id == account_id)
        .options(selectinload(Task.labels))
    )


def after(
    rows: Rows, key: InstrumentedAttribute[UUID], last: UUID | None, *, falling: bool
) -> Rows:
    """`rows` behind `last`, in order of the unique `key`."""
    if last is not None:
        rows = rows.where(key < last if falling else key > last)
    return rows.order_by(key.desc() if falling else key)
