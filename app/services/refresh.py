"""Log-ins that are refreshed by rotation: each refresh token is good once.

One that comes again was stolen, before its use or after it: the whole family, which is the log-in
with all of its tokens, ends (RFC 9700, 4.14.2).
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from app.db.account_rows import end_session
from app.db.engine import Database
from app.db.models import Account, AccountSession, RefreshToken
from app.db.types import db_now
from app.errors import Unauthenticated
from app.services.changes import Changes
from app.services.issuing import Issued, Lifetimes, digest_of
from app.services.ports import stale_account
from app.services.views import SessionView


class _Turn(NamedTuple):
    """What became of a refresh token: its account, and whether it was good."""

    account: Account
    good: bool


class RefreshService:
    """Takes a refresh token, and answers with the next one and a new access token."""

    def __init__(self, db: Database, changes: Changes, lifetimes: Lifetimes) -> None:
        self._db, self._changes, self._lifetimes = db, changes, lifetimes

    def refresh(self, refresh_token: str) -> SessionView:
        """Go on with the log-in. Its tokens of before are good for nothing.

        Raises:
            Unauthenticated: unknown, used before (the log-in has ended by that), or the log-in has
                ended, or its account is disabled.
        """
        given, fresh = digest_of(refresh_token), Issued.anew(self._lifetimes)

        def turn(session: Session) -> _Turn | None:
            found = session.execute(_family(given)).one_or_none()
            if found is None:
                return None
            family_id, account = found
            if _use(session, given):
                mine = update(AccountSession).where(AccountSession.id == family_id)
                session.execute(mine.values(**fresh.columns()))
                self._forget_used(session, family_id, fresh)
                fresh.keep_refresh(session, family_id)
                return _Turn(account, good=True)
            end_session(session, family_id)
            return _Turn(account, good=False)

        # The end of a family is committed before it is told.
        done = self._changes.commit(turn, lambda t: stale_account(t.account.id) if t else None)
        if done is None or not done.good:
            raise Unauthenticated("The refresh token is unknown or used, or its log-in has ended.")
        return fresh.view(done.account)

    def _forget_used(self, session: Session, family_id: UUID, fresh: Issued) -> None:
        """Those so old that whoever has one could long have had the log-in ended."""
        used = (RefreshToken.session_id == family_id) & (
            RefreshToken.used_at < fresh.now - self._lifetimes.session
        )
        session.execute(delete(RefreshToken).where(used))


def _family(digest: str) -> Select[UUID, Account]:
    """The log-in that a refresh token is of, if it goes on, and its account: held meanwhile."""
    return (
        select(AccountSession.id, Account)
        .join(RefreshToken, RefreshToken.session_id == AccountSession.id)
        .join(Account, Account.id == AccountSession.account_id)
        .where(RefreshToken.token_hash == digest)
        .where(AccountSession.revoked_at.is_(None), AccountSession.expires_at > db_now())
        .where(Account.disabled_at.is_(None))
        .with_for_update(of=AccountSession)
    )


def _use(session: Session, digest: str) -> bool:
    """Whether it had not been used."""
    unused = (RefreshToken.token_hash == digest) & RefreshToken.used_at.is_(None)
    used = update(RefreshToken).where(unused).values(used_at=db_now())
    return session.scalar(used.returning(RefreshToken.session_id)) is not None
