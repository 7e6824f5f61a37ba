"""One's own log-ins: which there are, and their end."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.models import AccountSession
from app.db.queries import after
from app.db.types import db_now
from app.errors import NotFound
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.ports import stale_account
from app.services.views import LogInView, Page, rfc3339

_ORDER = "-created"


class SessionService:
    """Each account sees and ends its own; another's are `NotFound`."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def list(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[LogInView]:
        """The account's sessions that have not ended, newest first.

        Raises:
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        mine = select(AccountSession).where(_live(actor))
        with self._db.read() as session:
            page = after(mine, AccountSession.id, last, falling=True).limit(limit + 1)
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [log_in_view(each, actor) for each in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1].id) if more else None,
        }

    def revoke(self, actor: Actor, session_id: UUID) -> None:
        """End one of them, in every process from the next request on.

        Raises:
            NotFound: it has ended, is not there, or not the account's.
        """
        mine = update(AccountSession).where(AccountSession.id == session_id, _live(actor))

        def end(session: Session) -> None:
            ended = mine.values(revoked_at=db_now()).returning(AccountSession.id)
            if session.scalar(ended) is None:
                raise NotFound("session")

        self._changes.commit(end, lambda _: stale_account(actor.account_id))


def _live(actor: Actor) -> ColumnElement[bool]:
    own = AccountSession.account_id == actor.account_id
    return own & AccountSession.revoked_at.is_(None) & (AccountSession.expires_at > db_now())


def log_in_view(session: AccountSession, actor: Actor) -> LogInView:
    """The log-in without its token."""
    return {
        "id": str(session.id),
        "current": session.id == actor.session_id,
        "created_at": rfc3339(session.created_at),
        "expires_at": rfc3339(session.expires_at),
    }
