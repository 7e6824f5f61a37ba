"""Personal access tokens: for programs, with scopes and an end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.enums import Scope
from app.db.models import AccessToken
from app.db.queries import after
from app.db.types import new_id
from app.errors import FieldError, InvalidInput, NotFound
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.cursors import decode_cursor, encode_cursor
from app.services.issuing import PERSONAL, digest_of, new_token
from app.services.ports import stale_account
from app.services.text_rules import checked, text_rule
from app.services.views import AccessTokenView, NewAccessTokenView, Page, rfc3339

NAME_MAX = 200
DAYS_MAX = 366
_ORDER = "-created"
_RULES = {"name": text_rule(least=1, most=NAME_MAX, strip=True)}


class AccessTokenService:
    """Each account makes, sees and ends its own; another's are `NotFound`."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def create(
        self, actor: Actor, *, name: str, scopes: Sequence[str], days: int
    ) -> NewAccessTokenView:
        """Make one. The answer is the only place where it can be read.

        Args:
            scopes: `read`, `write` or both.
            days: how long it is good, in days.

        Raises:
            InvalidInput: a field is out of bounds.
        """
        kept = checked(_RULES, {"name": name})["name"]
        wanted = sorted({str(scope) for scope in scopes})
        if not wanted or not set(wanted) <= set(Scope):
            wrong = FieldError("scopes", f"must be of {', '.join(Scope)}")
            raise InvalidInput("The scopes cannot be taken.", [wrong])
        if not 1 <= days <= DAYS_MAX:
            wrong = FieldError("days", f"must be 1 to {DAYS_MAX}")
            raise InvalidInput("The end cannot be taken.", [wrong])
        token = new_token(PERSONAL)

        def store(session: Session) -> AccessTokenView:
            now = datetime.now(UTC).replace(microsecond=0)
            row = AccessToken(
                id=new_id(),
                account_id=actor.account_id,
                name=kept,
                token_hash=digest_of(token),
                scopes=wanted,
                created_at=now,
                expires_at=now + timedelta(days=days),
            )
            session.add(row)
            session.flush()
            return access_token_view(row)

        return {**self._db.retrying(store), "token": token}

    def list(self, actor: Actor, *, cursor: str | None, limit: int) -> Page[AccessTokenView]:
        """The account's tokens, newest first; those that have ended too.

        Raises:
            InvalidInput: a cursor that is not of this list.
        """
        last = None if cursor is None else decode_cursor(cursor, order=_ORDER)
        mine = select(AccessToken).where(AccessToken.account_id == actor.account_id)
        with self._db.read() as session:
            page = after(mine, AccessToken.id, last, falling=True).limit(limit + 1)
            found = session.scalars(page).all()
        more = len(found) > limit
        return {
            "items": [access_token_view(each) for each in found[:limit]],
            "next_cursor": encode_cursor(_ORDER, found[limit - 1].id) if more else None,
        }

    def revoke(self, actor: Actor, token_id: UUID) -> None:
        """End one, in every process from the next request on.

        Raises:
            NotFound: it is not there, or not the account's.
        """
        own = (AccessToken.id == token_id) & (AccessToken.account_id == actor.account_id)

        def end(session: Session) -> None:
            if session.scalar(delete(AccessToken).where(own).returning(AccessToken.id)) is None:
                raise NotFound("access token")

        self._changes.commit(end, lambda _: stale_account(actor.account_id))


def access_token_view(token: AccessToken) -> AccessTokenView:
    """The token without itself."""
    return {
        "id": str(token.id),
        "name": token.name,
        "scopes": token.scopes,
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
    }
