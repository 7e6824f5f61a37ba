"""Members of projects: listed, given another role, removed; and the transfer of ownership.

Whoever changes members holds the project's row, so that they come one after the other. Each change
is a new version of the project: a member's role is part of what the project's ETag stands for.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.enums import MemberRole
from app.db.models import Account, Project, ProjectMember, Task
from app.db.queries import after
from app.errors import Conflict, FieldError, InvalidInput, NotFound
from app.services.access import Right, check_right, hold_project, manage_project, see_project
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.history import write_unassigned
from app.services.ports import stale_member
from app.services.projects import touch
from app.services.text_rules import checked
from app.services.views import MemberView, Page, ProjectView, member_view, project_view

_ORDER = "account"
GIVEN = (MemberRole.EDITOR, MemberRole.VIEWER)
"""The roles that a member can be given; the owner's passes on by transfer alone."""


def given_role(value: object) -> str:
    """Rule: a role that a member can be given.

    Raises:
        ValueError: any other word.
    """
    if value not in GIVEN:
        raise ValueError(f"must be one of {', '.join(GIVEN)}")
    return str(value)


class MemberService:
    """Members see each other; only the owner changes them, but everybody may leave."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def list(
        self, actor: Actor, project_id: UUID, *, cursor: str | None, limit: int
    ) -> Page[MemberView]:
        """The members of a project, in order of their accounts' age.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        rows = (
            select(ProjectMember, Account)
            .join(Account, Account.id == ProjectMember.account_id)
            .where(ProjectMember.project_id == project_id)
        )
        page = after(rows, ProjectMember.account_id, last, falling=False).limit(limit + 1)
        with self._db.read() as session:
            see_project(session, actor, project_id)
            found = session.execute(page).all()
        more = len(found) > limit
        return {
            "items": [member_view(*row) for row in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1][0].account_id) if more else None,
        }

    def change_role(
        self, actor: Actor, project_id: UUID, account_id: UUID, *, role: str
    ) -> MemberView:
        """Give a member another role.

        Raises:
            NotFound: the project or the member is not there, or the actor is no member.
            Forbidden: not the owner.
            Conflict: the member is the owner.
            InvalidInput: a role that cannot be given.
        """
        kept = checked({"role": given_role}, {"role": role})

        def change(session: Session) -> MemberView:
            project = manage_project(session, actor, project_id)
            member = _changeable(session, project_id, account_id)
            if member.role != kept["role"]:
                member.role = kept["role"]
                touch(project)
                session.flush()
            return member_view(member, session.get_one(Account, account_id))

        # Nothing that is cached shows a role, and every role may read all of it.
        return self._changes.commit(change, lambda _: None)

    def remove(self, actor: Actor, project_id: UUID, account_id: UUID) -> None:
        """Remove a member, or leave; the member's tasks are nobody's then.

        Raises:
            NotFound: the project or the member is not there, or the actor is no member.
            Forbidden: another member, by somebody who is not the owner.
            Conflict: the member is the owner, who has to transfer or delete the project.
        """

        def change(session: Session) -> bool:
            project, role = hold_project(session, actor, project_id)
            if account_id != actor.account_id:
                check_right(role, Right.MANAGE)
            return let_go(session, actor, project, account_id)

        self._changes.commit(
            change, lambda tasks: stale_member(project_id, account_id, tasks=tasks)
        )

    def transfer(self, actor: Actor, project_id: UUID, account_id: UUID) -> ProjectView:
        """Make another member the owner; the actor stays as an editor.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            Forbidden: not the owner.
            InvalidInput: the new owner is no member.
        """

        def change(session: Session) -> ProjectView:
            project = manage_project(session, actor, project_id)
            if account_id == actor.account_id:
                return project_view(project, MemberRole.OWNER)
            # The old owner first: there is never more than one.
            _set_role(session, project_id, actor.account_id, MemberRole.EDITOR)
            if not _set_role(session, project_id, account_id, MemberRole.OWNER):
                reason = "must be a member of the project"
                raise InvalidInput("Nobody else owns it.", [FieldError("member_id", reason)])
            project.owner_id = account_id
            touch(project)
            session.flush()
            return project_view(project, MemberRole.EDITOR)

        return self._changes.commit(change, lambda _: None)


def member_of(project_id: UUID, account_id: UUID) -> ColumnElement[bool]:
    """The one row of a member."""
    return (ProjectMember.project_id == project_id) & (ProjectMember.account_id == account_id)


def let_go(session: Session, actor: Actor, project: Project, account_id: UUID) -> bool:
    """End a membership of a project that is held; returns whether tasks changed with it.

    Raises:
        NotFound: there is no such member.
        Conflict: the member is the owner.
    """
    session.delete(_changeable(session, project.id, account_id))
    touch(project)
    session.flush()
    return _unassign(session, actor, project.id, account_id)


def _changeable(session: Session, project_id: UUID, account_id: UUID) -> ProjectMember:
    member = session.scalar(select(ProjectMember).where(member_of(project_id, account_id)))
    if member is None:
        raise NotFound("member")
    if member.role == MemberRole.OWNER:
        raise Conflict("The owner's role passes on by a transfer of the project alone.")
    return member


def _set_role(session: Session, project_id: UUID, account_id: UUID, role: MemberRole) -> bool:
    """Returns whether there is such a member."""
    change = update(ProjectMember).where(member_of(project_id, account_id)).values(role=role)
    return bool(session.scalars(change.returning(ProjectMember.account_id)).all())


def _unassign(session: Session, actor: Actor, project_id: UUID, account_id: UUID) -> bool:
    """Take the tasks from who is no member any more; returns whether there were any.

    They are locked in the order in which the sweep locks its own. After the member's row: who
    assigns one of them meanwhile keeps that row first, and so is waited for, or finds it gone.
    """
    now = datetime.now(UTC)
    theirs = (Task.project_id == project_id) & (Task.assignee_id == account_id)
    locked = select(Task.id).where(theirs).order_by(Task.due_at).with_for_update().subquery()
    if not session.scalar(select(func.count()).select_from(locked)):
        return False
    changed = session.execute(
        update(Task)
        .where(theirs)
        .values(assignee_id=None, version=Task.version + 1, updated_at=now)
        .returning(Task.id, Task.version)
        .execution_options(synchronize_session=False)
    )
    versions = {row.id: row.version for row in changed}
    write_unassigned(session, actor, versions, account_id, now)
    return True
