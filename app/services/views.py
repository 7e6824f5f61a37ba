"""What the services answer: JSON values, ids as text, times in RFC 3339 with Z."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from typing_extensions import TypedDict

from app.db.models import (
    Account,
    Project,
    ProjectInvitation,
    ProjectMember,
    Task,
    TaskHistory,
)

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
    """A project, as one of its members sees it: `role` is the reader's own."""

    id: str
    name: str
    description: str
    owner_id: str
    role: str
    version: int
    created_at: str
    updated_at: str
    archived_at: str | None


class TaskView(TypedDict):
    """A task. `overdue_at` is when the sweep marked it; `overdue` is whether it has."""

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
    overdue: bool
    overdue_at: str | None


FieldChange = TypedDict("FieldChange", {"field": str, "from": Any, "to": Any})
"""What one field was, and what it became."""


class ChangeView(TypedDict):
    """One version of a task. `account_id` is who made it; None once that account is gone."""

    version: int
    account_id: str | None
    action: str
    changes: list[FieldChange]
    created_at: str


class MemberView(TypedDict):
    """An account in a project, as its fellow members see it."""

    account_id: str
    name: str
    email: str
    role: str
    created_at: str


class InvitationView(TypedDict):
    """An invitation that has not been answered, as the project's owner sees it."""

    id: str
    email: str
    role: str
    created_at: str


class OfferView(TypedDict):
    """An invitation, as the one who was invited sees it."""

    id: str
    project_id: str
    project_name: str
    role: str
    created_at: str


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


def project_view(project: Project, role: str) -> ProjectView:
    """The project, for a member with that role."""
    return {
        "id": str(project.id),
        "name": project.name,
        "description": project.description,
        "owner_id": str(project.owner_id),
        "role": role,
        "version": project.version,
        "created_at": rfc3339(project.created_at),
        "updated_at": rfc3339(project.updated_at),
        "archived_at": _or_none(project.archived_at),
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
        "overdue": task.overdue_at is not None,
        "overdue_at": _or_none(task.overdue_at),
    }


def change_view(row: TaskHistory) -> ChangeView:
    """One row of a task's history."""
    return {
        "version": row.version,
        "account_id": None if row.account_id is None else str(row.account_id),
        "action": row.action,
        "changes": cast("list[FieldChange]", row.changes),
        "created_at": rfc3339(row.created_at),
    }


def member_view(member: ProjectMember, account: Account) -> MemberView:
    """The member."""
    return {
        "account_id": str(member.account_id),
        "name": account.name,
        "email": account.email,
        "role": member.role,
        "created_at": rfc3339(member.created_at),
    }


def invitation_view(invitation: ProjectInvitation) -> InvitationView:
    """The invitation, which tells nothing of whoever may have the address."""
    return {
        "id": str(invitation.id),
        "email": invitation.email,
        "role": invitation.role,
        "created_at": rfc3339(invitation.created_at),
    }


def offer_view(invitation: ProjectInvitation, project: Project) -> OfferView:
    """The invitation and what it is to."""
    return {
        "id": str(invitation.id),
        "project_id": str(project.id),
        "project_name": project.name,
        "role": invitation.role,
        "created_at": rfc3339(invitation.created_at),
    }


def _or_none(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
