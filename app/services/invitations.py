"""Invitations to projects: offered to an e-mail address, taken or declined by whose it is.

Nobody learns by inviting whether an address has an account: an invitation is stored and shown alike
for every address, no account is looked up for it, and the invited become members by their own yes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.models import Account, Project, ProjectInvitation, ProjectMember
from app.db.queries import after
from app.db.types import new_id
from app.errors import Conflict, NotFound
from app.services.access import Right, check_right, manage_project, see_project
from app.services.accounts import normal_email
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.members import given_role
from app.services.projects import touch
from app.services.text_rules import checked
from app.services.views import (
    InvitationView,
    OfferView,
    Page,
    ProjectView,
    invitation_view,
    offer_view,
    project_view,
)

_SENT, _RECEIVED = "invitations", "offers"
_RULES = {"email": normal_email, "role": given_role}


class InvitationService:
    """The owner invites and withdraws; whoever has the address accepts or declines."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def invite(self, actor: Actor, project_id: UUID, *, email: str, role: str) -> InvitationView:
        """Offer a membership to whoever has the address, now or later.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            Forbidden: not the owner.
            Conflict: the address is a member's, or invited already.
            InvalidInput: no address, or a role that cannot be given.
        """
        kept = checked(_RULES, {"email": email, "role": role})

        def store(session: Session) -> InvitationView:
            manage_project(session, actor, project_id)
            if session.scalar(_is_members(project_id, kept["email"])):
                raise Conflict("This address is a member's already.")
            now = datetime.now(UTC)
            invitation = ProjectInvitation(
                id=new_id(), project_id=project_id, created_at=now, **kept
            )
            session.add(invitation)
            session.flush()
            return invitation_view(invitation)

        try:
            return self._changes.commit(store, lambda _: None)
        except IntegrityError:
            raise Conflict("This address is invited already.") from None

    def sent(
        self, actor: Actor, project_id: UUID, *, cursor: str | None, limit: int
    ) -> Page[InvitationView]:
        """A project's invitations that are not answered, oldest first.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            Forbidden: not the owner.
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_SENT)
        rows = select(ProjectInvitation).where(ProjectInvitation.project_id == project_id)
        page = after(rows, ProjectInvitation.id, last, falling=False).limit(limit + 1)
        with self._db.read() as session:
            check_right(see_project(session, actor, project_id)[1], Right.MANAGE)
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [invitation_view(each) for each in found[:limit]],
            "next_cursor": encode_cursor(_SENT, found[limit - 1].id) if more else None,
        }

    def withdraw(self, actor: Actor, project_id: UUID, invitation_id: UUID) -> None:
        """Take back an invitation that is not answered.

        Raises:
            NotFound: the project or the invitation is not there, or the actor is no member.
            Forbidden: not the owner.
        """

        def remove(session: Session) -> None:
            manage_project(session, actor, project_id)
            _take(
                session,
                ProjectInvitation.id == invitation_id,
                ProjectInvitation.project_id == project_id,
            )

        self._changes.commit(remove, lambda _: None)

    def received(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[OfferView]:
        """The invitations to the actor's own address, oldest first; none while it is not verified.

        Raises:
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_RECEIVED)
        rows = (
            select(ProjectInvitation, Project)
            .join(Project, Project.id == ProjectInvitation.project_id)
            .where(ProjectInvitation.email == _address(actor))
        )
        page = after(rows, ProjectInvitation.id, last, falling=False).limit(limit + 1)
        with self._db.read() as session:
            found = session.execute(page).all()
        more = len(found) > limit
        return {
            "items": [offer_view(*row) for row in found[:limit]],
            "next_cursor": encode_cursor(_RECEIVED, found[limit - 1][0].id) if more else None,
        }

    def accept(self, actor: Actor, invitation_id: UUID) -> ProjectView:
        """Become a member by an invitation to one's own address.

        Raises:
            NotFound: there is none, or it is to another's address, or one not verified.
        """
        mine = (ProjectInvitation.id == invitation_id, ProjectInvitation.email == _address(actor))

        def join(session: Session) -> ProjectView:
            # The project's row before the invitation's, as whoever deletes the project takes them.
            project = session.scalar(
                select(Project)
                .join(ProjectInvitation, ProjectInvitation.project_id == Project.id)
                .where(*mine)
                .with_for_update(of=Project)
            )
            if project is None:
                raise NotFound("invitation")
            role = _take(session, *mine)
            member = session.get(ProjectMember, (project.id, actor.account_id))
            if member is None:
                member = _joined(session, project, actor, role)
            return project_view(project, member.role)

        # Nothing of the project is cached for who could not see it: a refusal is not kept.
        return self._db.retrying(join)

    def decline(self, actor: Actor, invitation_id: UUID) -> None:
        """Refuse an invitation to one's own address.

        Raises:
            NotFound: there is none, or it is to another's address, or one not verified.
        """
        mine = (ProjectInvitation.id == invitation_id, ProjectInvitation.email == _address(actor))
        self._db.retrying(lambda session: _take(session, *mine))


def _joined(session: Session, project: Project, actor: Actor, role: str) -> ProjectMember:
    member = ProjectMember(
        project_id=project.id,
        account_id=actor.account_id,
        role=role,
        created_at=datetime.now(UTC),
    )
    session.add(member)
    touch(project)
    session.flush()
    return member


def _address(actor: Actor) -> ColumnElement[str]:
    """The actor's, once it is verified: anybody may register with another's."""
    mine = (Account.id == actor.account_id) & Account.email_verified_at.is_not(None)
    return select(Account.email).where(mine).scalar_subquery()


def _is_members(project_id: UUID, email: str) -> Select[bool]:
    member = (ProjectMember.account_id == Account.id) & (ProjectMember.project_id == project_id)
    return select(exists().where(member, Account.email == email))


def _take(session: Session, *wanted: ColumnElement[bool]) -> str:
    """Delete the one invitation, of which only one caller gets the role."""
    taken = delete(ProjectInvitation).where(*wanted).returning(ProjectInvitation.role)
    role = session.scalar(taken)
    if role is None:
        raise NotFound("invitation")
    return role
