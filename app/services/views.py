"""What the services answer: JSON values, ids as text, times in RFC 3339 with Z."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Generic, TypeVar

from typing_extensions import TypedDict

from app.db.models import Account, Project, Task

T = TypeVar("T")


class AccountView(TypedDict):
    """An account, as its owner sees it."""

    id: str
    email: str
    name: str
    role: str
    email_verified_at: str | None
    created_at: str


class SessionView(TypedDict):
    """A new session. The token is shown this once."""

    token: str
    token_type: str
    expires_at: str
    refresh_token: str
    refresh_expires_at: str
    account: AccountView


class LogInView(TypedDict):
    """A log-in, without its token. `current`: the one that asks."""

    id: str
    current: bool
    created_at: str
    expires_at: str


class AccessTokenView(TypedDict):
    """A personal access token, without itself."""

    id: str
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str


class NewAccessTokenView(AccessTokenView):
    """One just made: `token` is shown this once."""

    token: str


class AdminAccountView(TypedDict):
    """An account, as an admin sees it."""

    id: str
    email: str
    name: str
    role: str
    plan: str
    email_verified_at: str | None
    disabled_at: str | None
    created_at: str
    updated_at: str


class ProjectView(TypedDict):
    """A project."""

    id: str
    name: str
    description: str
    version: int
    created_at: str
    updated_at: str


class TaskView(TypedDict):
    """A task. `overdue_at` is when the sweep marked it."""

    id: str
    project_id: str
    title: str
    description: str
    status: str
    priority: str
    due_at: str | None
    assignee_id: str | None
    labels: list[str]
    version: int
    created_at: str
    updated_at: str
    completed_at: str | None
    overdue_at: str | None


class StatsView(TypedDict):
    """Counts of a project's tasks. `overdue` and `due_in_7_days` are of open tasks, by now."""

    total: int
    open: int
    overdue: int
    due_in_7_days: int
    by_status: dict[str, int]
    by_priority: dict[str, int]


class ImportReport(TypedDict):
    """What an import stored, and the columns that it knows nothing of."""

    imported: int
    ignored_columns: list[str]


class Page(TypedDict, Generic[T]):
    """One page of a list; `next_cursor` is None on the last."""

    items: list[T]
    next_cursor: str | None


def rfc3339(moment: datetime) -> str:
    """In UTC with Z; a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def account_view(account: Account) -> AccountView:
    """The account without its password."""
    return {
        "id": str(account.id),
        "email": account.email,
        "name": account.name,
        "role": account.role,
        "email_verified_at": _or_none(account.email_verified_at),
        "created_at": rfc3339(account.created_at),
    }


def admin_account_view(account: Account) -> AdminAccountView:
    """The account with what only an admin may know of it."""
    return {
        **account_view(account),
        "plan": account.plan,
        "disabled_at": _or_none(account.disabled_at),
        "updated_at": rfc3339(account.updated_at),
    }


def project_view(project: Project) -> ProjectView:
    """The project."""
    return {
        "id": str(project.id),
        "name": project.name,
        "description": project.description,
        "version": project.version,
        "created_at": rfc3339(project.created_at),
        "updated_at": rfc3339(project.updated_at),
    }


def task_view(task: Task) -> TaskView:
    """The task with its labels, which must be loaded."""
    return {
        "id": str(task.id),
        "project_id": str(task.project_id),
        "title": task.title,
        "description": task.description,
        "status": task.status,
        "priority": task.priority,
        "due_at": _or_none(task.due_at),
        "assignee_id": None if task.assignee_id is None else str(task.assignee_id),
        "labels": sorted(label.name for label in task.labels),
        "version": task.version,
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "completed_at": _or_none(task.completed_at),
        "overdue_at": _or_none(task.overdue_at),
    }


def _or_none(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
