"""Tokens that were sent by mail: one for each account and purpose, good once and for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session

from app.db.enums import MailPurpose
from app.db.models import Account, MailedToken
from app.db.types import db_now


def keep(
    session: Session, account_id: UUID, purpose: MailPurpose, *, token_hash: str, ttl: timedelta
) -> None:
    """Store one in the place of the last one sent.

    Raises:
        IntegrityError: another transaction stores one at the same time.
    """
    last = (MailedToken.account_id == account_id) & (MailedToken.purpose == purpose)
    session.execute(delete(MailedToken).where(last))
    now = datetime.now(UTC)
    session.add(
        MailedToken(
            account_id=account_id,
            purpose=purpose,
            token_hash=token_hash,
            created_at=now,
            expires_at=now + ttl,
        )
    )
    session.flush()


def is_recent(session: Session, account_id: UUID, purpose: MailPurpose, *, age: timedelta) -> bool:
    """Whether one was made within `age`."""
    made = (
        select(MailedToken.account_id)
        .where(MailedToken.account_id == account_id, MailedToken.purpose == purpose)
        .where(MailedToken.created_at > datetime.now(UTC) - age)
    )
    return session.scalar(made) is not None


def account_of(token_hash: str, purpose: MailPurpose) -> Select[Account]:
    """Whose it is, while it is good."""
    mine = select(Account).join(MailedToken, MailedToken.account_id == Account.id)
    return mine.where(_good(token_hash, purpose))


def use(session: Session, token_hash: str, purpose: MailPurpose) -> UUID | None:
    """Whose it was, if it was good: it is used up now. Of two at once, one gets it."""
    used = delete(MailedToken).where(_good(token_hash, purpose)).returning(MailedToken.account_id)
    return session.scalar(used)


def _good(token_hash: str, purpose: MailPurpose) -> ColumnElement[bool]:
    named = (MailedToken.token_hash == token_hash) & (MailedToken.purpose == purpose)
    return named & (MailedToken.expires_at > db_now())
