"""Whose a token is. On every request's path: built once, because building costs most."""

from __future__ import annotations

from sqlalchemy import bindparam, func, null, select

from app.db.models import AccessToken, Account, AccountSession
from app.db.types import db_now, db_now_ms

# The access token of a log-in ends by itself, or with the log-in.
_until = func.coalesce(AccountSession.token_until, AccountSession.expires_at)

WHOSE_SESSION = (
    select(
        Account.id,
        AccountSession.id,
        Account.role,
        Account.plan,
        AccountSession.token_until,
        AccountSession.expires_at,
        db_now_ms(),
        null().label("scopes"),
    )
    .join(Account, Account.id == AccountSession.account_id)
    .where(AccountSession.token_hash == bindparam("digest"))
    .where(AccountSession.revoked_at.is_(None), _until > db_now())
    .where(AccountSession.expires_at > db_now(), Account.disabled_at.is_(None))
)
WHOSE_ACCESS_TOKEN = (
    select(
        Account.id,
        null().label("session_id"),
        Account.role,
        Account.plan,
        null().label("token_until"),
        AccessToken.expires_at,
        db_now_ms(),
        AccessToken.scopes,
    )
    .join(Account, Account.id == AccessToken.account_id)
    .where(AccessToken.token_hash == bindparam("digest"))
    .where(AccessToken.expires_at > db_now(), Account.disabled_at.is_(None))
)
