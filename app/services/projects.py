"""Projects: what an account's tasks belong to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.models import Project
from app.db.queries import after, own_project
from app.db.types import new_id
from app.errors import NotFound, PreconditionFailed
from app.services.actor import Actor
from app.services.changes import Changes, Revealing
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
    """Each account sees its own projects; another's are `NotFound`."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def create(self, actor: Actor, *, name: str, description: str = "") -> ProjectView:
        """Store a new project.

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
            return project_view(project)

        return self._db.retrying(store)

    def list(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[ProjectView]:
        """The account's projects, oldest first.

        Raises:
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        mine = select(Project).where(Project.owner_id == actor.account_id)
        with self._db.read() as session:
            page = after(mine, Project.id, last, falling=False).limit(limit + 1)
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [project_view(project) for project in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1].id) if more else None,
        }

    def get(self, actor: Actor, project_id: UUID) -> ProjectView:
        """One project.

        Raises:
            NotFound: it is not there, or not the account's.
        """
        with self._db.read() as session:
            project = session.scalar(own_project(actor.account_id, project_id))
            if project is None:
                raise NotFound("project")
            return project_view(project)

    def patch(
        self, actor: Actor, project_id: UUID, *, version: int, changes: Mapping[str, Any]
    ) -> ProjectView:
        """Change the given fields of what is still at `version`.

        Raises:
            NotFound: it is not there, or not the account's.
            PreconditionFailed: someone changed it meanwhile.
            InvalidInput: a field that cannot be set, or not to this.
        """
        values = checked(_RULES, changes)

        def change(session: Session) -> ProjectView:
            project = _current(session, actor, project_id, version)
            changed = {k: v for k, v in values.items() if getattr(project, k) != v}
            if changed:
                for name, value in changed.items():
                    setattr(project, name, value)
                project.version += 1
                project.updated_at = datetime.now(UTC)
                session.flush()
            return project_view(project)

        return self._changes.commit(change, lambda _: None)

    def delete(self, actor: Actor, project_id: UUID, *, version: int) -> None:
        """Delete the project, if still at `version`, and all of its tasks.

        Raises:
            NotFound: it is not there, or not the account's.
            PreconditionFailed: someone changed it meanwhile.
        """

        def remove(session: Session) -> None:
            project = _current(session, actor, project_id, version)
            session.execute(delete(Project).where(Project.id == project.id))

        self._changes.commit(remove, lambda _: stale_projects(project_id))


def _current(session: Session, actor: Actor, project_id: UUID, version: int) -> Project:
    project = session.scalar(own_project(actor.account_id, project_id).with_for_update())
    if project is None:
        answer = NotFound("project")
        if session.scalar(select(Project.id).where(Project.id == project_id)):
            raise answer
        # Nobody's: it may have been deleted by one whose own answer was lost.
        raise Revealing(answer, stale_projects(project_id))
    if project.version != version:
        raise PreconditionFailed("The project was changed meanwhile; read it again.")
    return project
