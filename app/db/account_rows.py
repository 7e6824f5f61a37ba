"""Statements about an account's password and its log-ins."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from app.db.models import AccessToken, Account, AccountSession, ProjectMember
from app.db.types import db_now


def keep_as_read(session: Session, account: Account, *, for_change: bool) -> bool:
    """Hold the account until the transaction has ended, if it is still as it was verified.

    A change of the password ends the sessions that it sees: without the lock, one opened by the old
    password at the same time would stay.

    Returns:
        Whether it has that password still, and is not disabled.
    """
    same = select(Account.id).where(_unchanged(account), Account.disabled_at.is_(None))
    return session.scalar(same.with_for_update(read=not for_change)) is not None


def replace_hash(session: Session, account: Account, new_hash: str) -> bool:
    """Store a new hash, unless the password was changed since the account was read."""
    change = update(Account).where(_unchanged(account)).values(password_hash=new_hash)
    return session.scalar(change.returning(Account.id)) is not None


def end_sessions(session: Session, account_id: UUID, *, but: UUID | None = None) -> None:
    """Revoke the sessions of an account, all or all but one."""
    live = (AccountSession.account_id == account_id) & AccountSession.revoked_at.is_(None)
    if but is not None:
        live &= AccountSession.id != but
    session.execute(update(AccountSession).where(live).values(revoked_at=db_now()))


def end_access_tokens(session: Session, account_id: UUID) -> None:
    """Delete all personal access tokens of an account."""
    session.execute(delete(AccessToken).where(AccessToken.account_id == account_id))


def end_session(session: Session, session_id: UUID) -> None:
    """Revoke one."""
    mine = update(AccountSession).where(AccountSession.id == session_id)
    session.execute(mine.values(revoked_at=db_now()))


def memberships(session: Session, account_id: UUID) -> dict[UUID, str]:
    """The role in each project that the account is a member of, in one order for everybody."""
    mine = select(ProjectMember.project_id, ProjectMember.role)
    mine = mine.where(ProjectMember.account_id == account_id).order_by(ProjectMember.project_id)
    return {row.project_id: row.role for row in session.execute(mine)}


def _unchanged(account: Account) -> ColumnElement[bool]:
    return (Account.id == account.id) & (Account.password_hash == account.password_hash)
