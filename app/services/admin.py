"""What an admin sees and does about other people's accounts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.account_rows import end_sessions
from app.db.engine import Database
from app.db.enums import Role
from app.db.models import Account
from app.db.queries import after
from app.errors import Conflict, Forbidden, NotFound
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.ports import stale_account
from app.services.text_rules import checked, word_rule
from app.services.views import AdminAccountView, Page, admin_account_view

_ORDER = "created"
_RULES = {"role": word_rule(Role)}


class AdminService:
    """For accounts with the role `admin`. To any other, single accounts are not there.

    A change holds at the next request of the account in every process.
    """

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def list(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[AdminAccountView]:
        """Every account, oldest first.

        Raises:
            Forbidden: the actor is no admin.
            InvalidInput: a cursor that is not of this list.
        """
        if actor.role != Role.ADMIN:
            raise Forbidden("Only an admin may list accounts.")
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        with self._db.read() as session:
            page = after(select(Account), Account.id, last, falling=False).limit(limit + 1)
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [admin_account_view(each) for each in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1].id) if more else None,
        }

    def get(self, actor: Actor, account_id: UUID) -> AdminAccountView:
        """One account.

        Raises:
            NotFound: it is not there, or the actor is no admin.
        """
        _require_admin(actor)
        with self._db.read() as session:
            account = session.get(Account, account_id)
        if account is None:
            raise NotFound("account")
        return admin_account_view(account)

    def disable(self, actor: Actor, account_id: UUID) -> AdminAccountView:
        """Let it log in no more, and end its sessions; again changes nothing.

        Raises:
            NotFound: it is not there, or the actor is no admin.
            Conflict: it is the actor's own.
        """
        _refuse_oneself(actor, account_id)
        return self._change(actor, account_id, disabled=True)

    def enable(self, actor: Actor, account_id: UUID) -> AdminAccountView:
        """Let it log in again; what its disabling ended stays ended.

        Raises:
            NotFound: it is not there, or the actor is no admin.
        """
        return self._change(actor, account_id, disabled=False)

    def set_role(self, actor: Actor, account_id: UUID, role: str) -> AdminAccountView:
        """Give it a role.

        Raises:
            NotFound: it is not there, or the actor is no admin.
            Conflict: it is the actor's own: the last admin could not undo it.
            InvalidInput: there is no such role.
        """
        _refuse_oneself(actor, account_id)
        return self._change(actor, account_id, **checked(_RULES, {"role": role}))

    def _change(
        self, actor: Actor, account_id: UUID, *, disabled: bool | None = None, **values: Any
    ) -> AdminAccountView:
        _require_admin(actor)

        def change(session: Session) -> AdminAccountView:
            locked = select(Account).where(Account.id == account_id).with_for_update()
            account = session.scalar(locked)
            if account is None:
                raise NotFound("account")
            now = datetime.now(UTC)
            if disabled is not None:
                values["disabled_at"] = (account.disabled_at or now) if disabled else None
            if disabled:
                end_sessions(session, account_id)
            changed = {k: v for k, v in values.items() if getattr(account, k) != v}
            for name, value in changed.items():
                setattr(account, name, value)
            if changed:
                account.updated_at = now
            return admin_account_view(account)

        return self._changes.commit(change, lambda _: stale_account(account_id))


def _require_admin(actor: Actor) -> None:
    if actor.role != Role.ADMIN:
        raise NotFound("account")


def _refuse_oneself(actor: Actor, account_id: UUID) -> None:
    if actor.role == Role.ADMIN and account_id == actor.account_id:
        raise Conflict("An admin cannot do this to the own account; another admin can.")
