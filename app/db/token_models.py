"""The tables of log-ins and tokens. None holds a token, only the hex of its SHA-256."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from app.db.enums import MailPurpose
from app.db.types import new_id


class AccountSession(Base):
    """One log-in. The token itself is never stored, only the hex of its SHA-256.

    It ends at `expires_at`; its token, if that is refreshed, already at `token_until`.
    """

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    token_until: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class MailedToken(Base):
    """A token that was sent by mail, as the hex of its SHA-256. Deleted when it is used."""

    __tablename__ = "mailed_tokens"
    __table_args__ = (one_of("purpose", MailPurpose),)

    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    purpose: Mapped[str] = mapped_column(String(16), primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class RefreshToken(Base):
    """What a log-in was, or can be, gone on with; as the hex of its SHA-256, good once."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[UUID] = mapped_column(
        ForeignKey("sessions.id", ondelete="CASCADE"), index=True
    )
    used_at: Mapped[datetime | None]


class AccessToken(Base):
    """A program's token, as the hex of its SHA-256. Ended by being deleted."""

    __tablename__ = "access_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(200))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
