"""Projects: what tasks belong to, and what accounts are members of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.enums import MemberRole
from app.db.models import Project, ProjectMember
from app.db.queries import after, seen_projects
from app.db.types import new_id
from app.errors import PreconditionFailed
from app.services.access import check_open, manage_project, see_project
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.ports import stale_projects
from app.services.text_rules import Rule, checked, text_rule
from app.services.views import Page, ProjectView, project_view

NAME_MAX = 200
DESCRIPTION_MAX = 20_000
_ORDER = "created"
_RULES: Mapping[str, Rule] = {
    "name": text_rule(least=1, most=NAME_MAX, strip=True),
    "description": text_rule(most=DESCRIPTION_MAX),
}


class ProjectService:
    """Each account sees the projects that it is a member of; others are `NotFound`.

    A project's own fields, its archive and its deletion are the owner's: any other member is
    `Forbidden`.
    """

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def create(self, actor: Actor, *, name: str, description: str = "") -> ProjectView:
        """Store a new project, whose owner is the actor.

        Raises:
            InvalidInput: the name or the description is out of bounds.
        """
        values = checked(_RULES, {"name": name, "description": description})

        def store(session: Session) -> ProjectView:
            now = datetime.now(UTC)
            project = Project(
                id=new_id(),
                owner_id=actor.account_id,
                version=1,
                created_at=now,
                updated_at=now,
                **values,
            )
            session.add(project)
            session.flush()
            session.add(owner_of(project))
            session.flush()
            return project_view(project, MemberRole.OWNER)

        return self._db.retrying(store)

    def list(
        self,
        actor: Actor,
        *,
        cursor: str | None,
        limit: int,
        shared: bool | None = None,
        archived: bool | None = None,
    ) -> Page[ProjectView]:
        """The projects that the account is a member of, oldest first.

        Args:
            shared: only others' projects, or only one's own; None for all.
            archived: only archived projects, or only others; None for all.

        Raises:
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        rows = seen_projects(actor.account_id)
        if shared is not None:
            is_own = ProjectMember.role == MemberRole.OWNER
            rows = rows.where(~is_own if shared else is_own)
        if archived is not None:
            is_open = Project.archived_at.is_(None)
            rows = rows.where(~is_open if archived else is_open)
        if last is not None:  # said of both sides, or a join might begin with the oldest project
            rows = rows.where(Project.id > last)
        page = after(rows, ProjectMember.project_id, last, falling=False).limit(limit + 1)
        with self._db.read() as session:
            found = session.execute(page).all()
        more = len(found) > limit
        return {
            "items": [project_view(project, role) for project, role in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1][0].id) if more else None,
        }

    def get(self, actor: Actor, project_id: UUID) -> ProjectView:
        """One project.

        Raises:
            NotFound: it is not there, or the actor is no member.
        """
        with self._db.read() as session:
            return project_view(*see_project(session, actor, project_id))

    def patch(
        self, actor: Actor, project_id: UUID, *, version: int, changes: Mapping[str, Any]
    ) -> ProjectView:
        """Change the given fields of what is still at `version`.

        Raises:
            NotFound: it is not there, or the actor is no member.
            Forbidden: not the owner.
            Conflict: it is archived.
            PreconditionFailed: someone changed it meanwhile.
            InvalidInput: a field that cannot be set, or not to this.
        """
        values = checked(_RULES, changes)

        def change(session: Session) -> ProjectView:
            project = manage_project(session, actor, project_id)
            check_open(project.archived_at)
            _check_version(project, version)
            return _changed(session, project, values)

        return self._changes.commit(change, lambda _: None)

    def archive(self, actor: Actor, project_id: UUID) -> ProjectView:
        """Let the project and its tasks be read only; again does nothing.

        Raises:
            NotFound: it is not there, or the actor is no member.
            Forbidden: not the owner.
        """

        def change(session: Session) -> ProjectView:
            project = manage_project(session, actor, project_id)
            since = project.archived_at or datetime.now(UTC)
            return _changed(session, project, {"archived_at": since})

        return self._changes.commit(change, lambda _: None)

    def unarchive(self, actor: Actor, project_id: UUID) -> ProjectView:
        """Let the project and its tasks be changed again.

        Raises:
            NotFound, Forbidden: as `archive`.
        """

        def change(session: Session) -> ProjectView:
            project = manage_project(session, actor, project_id)
            return _changed(session, project, {"archived_at": None})

        return self._changes.commit(change, lambda _: None)

    def delete(self, actor: Actor, project_id: UUID, *, version: int) -> None:
        """Delete the project, if still at `version`, and all of its tasks; archived or not.

        Raises:
            NotFound: it is not there, or the actor is no member.
            Forbidden: not the owner.
            PreconditionFailed: someone changed it meanwhile.
        """

        def remove(session: Session) -> None:
            project = manage_project(session, actor, project_id)
            _check_version(project, version)
            session.execute(delete(Project).where(Project.id == project.id))

        self._changes.commit(remove, lambda _: stale_projects(project_id))


def owner_of(project: Project) -> ProjectMember:
    """The owner's own membership of a new project."""
    return ProjectMember(
        project_id=project.id,
        account_id=project.owner_id,
        role=MemberRole.OWNER,
        created_at=project.created_at,
    )


def touch(project: Project) -> None:
    """Make it the next version."""
    project.version += 1
    project.updated_at = datetime.now(UTC)


def _changed(session: Session, project: Project, values: Mapping[str, Any]) -> ProjectView:
    """Set what differs, for the owner."""
    changed = {name: value for name, value in values.items() if getattr(project, name) != value}
    if changed:
        for name, value in changed.items():
            setattr(project, name, value)
        touch(project)
        session.flush()
    return project_view(project, MemberRole.OWNER)


def _check_version(project: Project, version: int) -> None:
    if project.version != version:
        raise PreconditionFailed("The project was changed meanwhile; read it again.")
