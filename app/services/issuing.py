"""Tokens as they are made and kept: random, and in the database as their SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.db.models import Account, RefreshToken
from app.services.passwords import raw
from app.services.views import SessionView, account_view, rfc3339

_TOKEN_BYTES = 32
PERSONAL = "tfp_"
"""How a personal access token begins, by which scanners for leaked secrets find it."""


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(raw(token)).hexdigest()


def new_token(prefix: str = "") -> str:
    """A token of 256 random bits."""
    return prefix + secrets.token_urlsafe(_TOKEN_BYTES)


class Lifetimes(NamedTuple):
    """How long a log-in lasts that is not refreshed, and each of its access tokens."""

    session: timedelta
    access: timedelta

    @classmethod
    def of(cls, session_s: int, access_s: int) -> Lifetimes:
        """In seconds; no access token outlives its log-in."""
        return cls(timedelta(seconds=session_s), timedelta(seconds=min(session_s, access_s)))


class Issued(NamedTuple):
    """A log-in's new tokens: one for requests, one for a refresh."""

    token: str
    refresh_token: str
    now: datetime
    token_until: datetime
    expires_at: datetime

    @classmethod
    def anew(cls, lifetimes: Lifetimes) -> Issued:
        now = datetime.now(UTC)
        until, expires_at = (now + each for each in (lifetimes.access, lifetimes.session))
        ends = (until.replace(microsecond=0), expires_at.replace(microsecond=0))
        return cls(new_token(), new_token(), now, *ends)

    def columns(self) -> dict[str, object]:
        """What the session keeps of them."""
        return {
            "token_hash": digest_of(self.token),
            "token_until": self.token_until,
            "expires_at": self.expires_at,
        }

    def keep_refresh(self, session: Session, session_id: UUID) -> None:
        """Store what the refresh token is known by."""
        row = {"token_hash": digest_of(self.refresh_token), "session_id": session_id}
        session.execute(insert(RefreshToken).values(**row))

    def view(self, account: Account) -> SessionView:
        """The only answer that ever shows them."""
        return {
            "token": self.token,
            "token_type": "Bearer",
            "expires_at": rfc3339(self.token_until),
            "refresh_token": self.refresh_token,
            "refresh_expires_at": rfc3339(self.expires_at),
            "account": account_view(account),
        }
