"""What the services need from elsewhere, as protocols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import UUID

from app.coordination.stale import Heard, Stale
from app.coordination.values import Load

LISTS = "lists"
"""The tag of whatever shows several of a project's tasks: lists and counts."""
EVERY_TASK = "every-task"
"""The tag of each single task, for changes that name none."""
ACCOUNT = "account"
"""The tag of who somebody is: role, plan, sessions."""

AGES_S = 5
"""How long an answer is kept that changes as time passes, such as what is late, seconds."""


class Cache(Protocol):
    """Values that can be loaded again. Implemented in `app/coordination`.

    `records`: whether changes are to be written down for it, because others read it too.
    """

    @property
    def records(self) -> bool: ...

    def fetch(
        self,
        namespace: str,
        key: str,
        *,
        tags: Sequence[str],
        load: Load,
        ttl_s: int | None = None,
    ) -> bytes:
        """The value under `key`, kept or loaded; `load` opens its own fresh session.

        Args:
            ttl_s: seconds, for a value that ages by itself.
        """
        ...

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        """Make a miss of what these changes made stale. After the commit, before the answer.

        Never raises.
        """
        ...


def project_namespace(project_id: UUID) -> str:
    """The namespace of everything cached that depends on one project."""
    return f"project:{project_id}"


def account_namespace(account_id: UUID) -> str:
    """The namespace of everything cached that depends on one account."""
    return f"account:{account_id}"


def task_tag(task_id: UUID) -> str:
    """The tag of one task."""
    return f"task:{task_id}"


def member_tag(account_id: UUID) -> str:
    """The tag of whatever one account was shown of a project."""
    return f"member:{account_id}"


def stale_task(project_id: UUID, task_id: UUID) -> Stale:
    """What a change of one task makes stale."""
    return Stale((project_namespace(project_id),), (LISTS, task_tag(task_id)))


def stale_projects(*project_ids: UUID) -> Stale:
    """What a change of many tasks makes stale."""
    return Stale(tuple(project_namespace(each) for each in project_ids), (LISTS, EVERY_TASK))


def stale_with_projects(account_id: UUID, project_ids: Iterable[UUID]) -> Stale:
    """What the end of an account makes stale: itself, and the projects that it was shown in."""
    projects = tuple(project_namespace(each) for each in project_ids)
    return Stale(
        (account_namespace(account_id), *projects),
        (ACCOUNT, LISTS, EVERY_TASK, member_tag(account_id)),
    )


def stale_member(project_id: UUID, account_id: UUID, *, tasks: bool) -> Stale:
    """What the end of a membership makes stale: all that the account was shown of the project.

    Args:
        tasks: whether tasks changed with it, for everybody.
    """
    shown = member_tag(account_id)
    tags = (LISTS, EVERY_TASK, shown) if tasks else (shown,)
    return Stale((project_namespace(project_id),), tags)


def stale_account(account_id: UUID) -> Stale:
    """What a change of an account, or of one of its sessions, makes stale."""
    return Stale((account_namespace(account_id),), (ACCOUNT,))
