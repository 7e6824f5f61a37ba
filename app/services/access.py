"""Who may do what in a project: the one place where a role becomes a yes or a no.

What an account may not read is `NotFound`, as if it were not there. What it may read and not do is
`Forbidden`, and what nobody may do to an archived project is a `Conflict`; in this order.
What is for a change belongs in a unit of `Changes.commit`: its refusal may be a `Revealing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.db.enums import MemberRole
from app.db.models import Project
from app.db.queries import kept_project, seen_project
from app.errors import Conflict, Forbidden, NotFound
from app.services.actor import Actor
from app.services.changes import Revealing
from app.services.ports import stale_projects


class Right(Enum):
    """What a role may allow beyond reading."""

    WRITE = "change its tasks"
    MANAGE = "manage it"


RIGHTS: Mapping[MemberRole, frozenset[Right]] = {
    MemberRole.OWNER: frozenset({Right.WRITE, Right.MANAGE}),
    MemberRole.EDITOR: frozenset({Right.WRITE}),
    MemberRole.VIEWER: frozenset(),
}


def check_right(role: str, right: Right) -> None:
    """
    Raises:
        Forbidden: the role does not allow it.
    """
    if right not in RIGHTS[MemberRole(role)]:
        raise Forbidden(f"A project's {role} may read it, but not {right.value}.")


def check_open(archived_at: datetime | None) -> None:
    """
    Raises:
        Conflict: the project is archived.
    """
    if archived_at is not None:
        raise Conflict("The project is archived, and can only be read.")


def see_project(session: Session, actor: Actor, project_id: UUID) -> tuple[Project, str]:
    """The project, and the actor's role in it.

    Raises:
        NotFound: it is not there, or the actor is no member.
    """
    found = _found(session, seen_project(actor.account_id, project_id))
    if found is None:
        raise NotFound("project")
    return found


def write_project(session: Session, actor: Actor, project_id: UUID) -> None:
    """Make sure that the actor may add tasks, and keep the project until the transaction's end.

    Raises:
        NotFound: it is not there, or the actor is no member.
        Forbidden: a viewer.
        Conflict: the project is archived.
    """
    found = _found(session, kept_project(actor.account_id, project_id))
    if found is None:
        raise _missing(session, project_id)
    project, role = found
    check_right(role, Right.WRITE)
    check_open(project.archived_at)


def manage_project(session: Session, actor: Actor, project_id: UUID) -> Project:
    """The project, locked: one at a time changes it or its members.

    Raises:
        NotFound: it is not there, or the actor is no member.
        Forbidden: not the owner.
    """
    project, role = hold_project(session, actor, project_id)
    check_right(role, Right.MANAGE)
    return project


def hold_project(session: Session, actor: Actor, project_id: UUID) -> tuple[Project, str]:
    """As `manage_project`, for any member.

    The role is read once the lock is held: whoever waited for it may have lost theirs meanwhile.

    Raises:
        NotFound: it is not there, or the actor is no member.
    """
    held = seen_project(actor.account_id, project_id)
    _found(session, held.with_for_update(of=Project))
    found = _found(session, held.execution_options(populate_existing=True))
    if found is None:
        raise _missing(session, project_id)
    return found


def _found(session: Session, wanted: Select[Project, str]) -> tuple[Project, str] | None:
    row = session.execute(wanted).one_or_none()
    return None if row is None else (row[0], row[1])


def _missing(session: Session, project_id: UUID) -> Exception:
    """Of a project that is nobody's it shows the deletion, whose own answer may have been lost."""
    answer = NotFound("project")
    if session.scalar(select(Project.id).where(Project.id == project_id)):
        return answer
    return Revealing(answer, stale_projects(project_id))
