"""The statements that decide who sees what. Every one is scoped to an account's memberships."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, select
from sqlalchemy.orm import InstrumentedAttribute, selectinload

from app.db.enums import OPEN
from app.db.models import Project, ProjectMember, Task
from app.db.types import db_now

Rows = TypeVar("Rows", bound=Select[*tuple[Any, ...]])
Key = TypeVar("Key", UUID, int)

# Written into the statement and not bound: a partial index serves only what it can see.
is_open: ColumnElement[bool] = Task.status.in_(
    bindparam("open", OPEN, expanding=True, literal_execute=True)
)


def is_late() -> ColumnElement[bool]:
    """Open, and past its due time by the database's clock; whether marked or not."""
    return is_open & (Task.due_at < db_now())


def seen_projects(account_id: UUID) -> Select[Project, str]:
    """Every project that the account may see, and its role there."""
    return (
        select(Project, ProjectMember.role)
        .join(ProjectMember, ProjectMember.project_id == Project.id)
        .where(ProjectMember.account_id == account_id)
    )


def seen_project(account_id: UUID, project_id: UUID) -> Select[Project, str]:
    """The project and the account's role, if it may see it."""
    return seen_projects(account_id).where(Project.id == project_id)


def kept_project(account_id: UUID, project_id: UUID) -> Select[Project, str]:
    """As `seen_project`, and the project cannot be deleted until this transaction has ended."""
    kept = seen_project(account_id, project_id)
    return kept.with_for_update(read=True, key_share=True, of=Project)


def seen_tasks(account_id: UUID) -> Select[Task]:
    """Every task that the account may see, with its labels."""
    return (
        select(Task)
        .join(ProjectMember, ProjectMember.project_id == Task.project_id)
        .where(ProjectMember.account_id == account_id)
        .options(selectinload(Task.labels))
    )


def held_task(account_id: UUID, task_id: UUID) -> Select[Task, str, datetime | None]:
    """The task, locked, with the account's role and when the project was archived."""
    return (
        seen_tasks(account_id)
        .join(Project, Project.id == Task.project_id)
        .where(Task.id == task_id)
        .add_columns(ProjectMember.role, Project.archived_at)
        .with_for_update(of=Task)
    )


def kept_member(project_id: ColumnElement[UUID] | UUID, account_id: UUID) -> Select[UUID]:
    """The member's account, who cannot be removed until this transaction has ended.

    Whoever locks both takes members before tasks.
    """
    member = (ProjectMember.project_id == project_id) & (ProjectMember.account_id == account_id)
    return select(ProjectMember.account_id).where(member).with_for_update(read=True, key_share=True)


def after(rows: Rows, key: InstrumentedAttribute[Key], last: Key | None, *, falling: bool) -> Rows:
    """`rows` behind `last`, in order of the unique `key`."""
    if last is not None:
        rows = rows.where(key < last if falling else key > last)
    return rows.order_by(key.desc() if falling else key)
