"""Accounts and their sessions."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.account_rows import keep_as_read, replace_hash
from app.db.engine import Database
from app.db.enums import Role
from app.db.models import Account, AccountSession
from app.db.types import db_now, db_now_ms, new_id
from app.errors import Conflict, InvalidCredentials, NotFound, Unauthenticated
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.limit_rules import check_subject
from app.services.password_rules import check_password, sized
from app.services.passwords import Passwords, raw
from app.services.ports import stale_account
from app.services.text_rules import checked, text_rule, word_rule
from app.services.views import AccountView, SessionView, account_view, rfc3339

NAME_MAX = 200
_TOKEN_BYTES = 32
_WRONG = "E-mail address or password is wrong."


def normal_email(value: object) -> str:
    """Rule: an address in its normal form, lower case throughout.

    Raises:
        ValueError: it is not an address.
    """
    try:
        found = validate_email(str(value).strip(), check_deliverability=False)
    except EmailNotValidError:
        raise ValueError("must be an e-mail address, such as name@example.com") from None
    return found.normalized.lower()


_RULES = {
    "email": normal_email,
    "password": sized,
    "name": text_rule(least=1, most=NAME_MAX, strip=True),
    "role": word_rule(Role),
}


# On every request's path: built once, because building costs more than the look-up.
_WHOSE_TOKEN = (
    select(
        Account.id,
        AccountSession.id,
        Account.role,
        Account.plan,
        AccountSession.expires_at,
        db_now_ms(),
    )
    .join(Account, Account.id == AccountSession.account_id)
    .where(AccountSession.token_hash == bindparam("digest"))
    .where(AccountSession.revoked_at.is_(None), AccountSession.expires_at > db_now())
    .where(Account.disabled_at.is_(None))
)


class Identified(NamedTuple):
    """Whose a token is, and for how long it is good, ms."""

    actor: Actor
    left_ms: int


class AccountService:
    """Registers, logs in and out, and says who a token belongs to.

    Args:
        session_ttl_s: how long a session lasts, in seconds.
        greet: told of each account that somebody has registered.
    """

    def __init__(
        self,
        db: Database,
        changes: Changes,
        passwords: Passwords,
        session_ttl_s: int,
        *,
        greet: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self._greet = greet
        self._db, self._changes, self._passwords = db, changes, passwords
        self._session_ttl = timedelta(seconds=session_ttl_s)

    def register(self, *, email: str, password: str, name: str) -> AccountView:
        """Store a new account with the role `user`.

        Raises:
            InvalidInput: a field is out of bounds.
            Conflict: the address is taken.
        """
        view = self.create(email=email, password=password, name=name, role=Role.USER)
        self._greet(UUID(view["id"]))
        return view

    def create(self, *, email: str, password: str, name: str, role: str) -> AccountView:
        """Store a new account with any role; for operators.

        Raises:
            InvalidInput: a field is out of bounds.
            Conflict: the address is taken.
        """
        given = {"email": email, "password": password, "name": name, "role": role}
        kept = checked(_RULES, given)
        check_password(kept["password"], own=(kept["email"], kept["name"]))
        password_hash = self._passwords.hash(kept["password"])
        now = datetime.now(UTC)

        def store(session: Session) -> AccountView:
            account = Account(
                id=new_id(),
                email=kept["email"],
                name=kept["name"],
                role=kept["role"],
                password_hash=password_hash,
                created_at=now,
                updated_at=now,
            )
            session.add(account)
            session.flush()
            return account_view(account)

        try:
            return self._db.retrying(store)
        except IntegrityError:
            raise Conflict("An account with this e-mail address exists.") from None

    def log_in(self, *, email: str, password: str) -> SessionView:
        """Open a session. One argon2 verification is made whoever asks, and no row is locked by it.

        Raises:
            InvalidCredentials: unknown address, wrong password or disabled account alike.
            HashingBusy: too many are logging in.
        """
        account = self._account_of(email)
        verified = self._passwords.verify(account.password_hash if account else None, password)
        if account is None or not verified or account.disabled_at is not None:
            raise InvalidCredentials(_WRONG)
        return self._open_session(account, password)

    def log_out(self, actor: Actor) -> None:
        """Revoke the session that the actor came with; again does nothing."""
        mine = (AccountSession.id == actor.session_id) & AccountSession.revoked_at.is_(None)

        def revoke(session: Session) -> None:
            session.execute(update(AccountSession).where(mine).values(revoked_at=db_now()))

        self._changes.commit(revoke, lambda _: stale_account(actor.account_id))

    def identify(self, token: str) -> Identified:
        """Whose token it is, in one query.

        Raises:
            Unauthenticated: unknown, expired or revoked, or the account is disabled.
        """
        with self._db.read() as session:
            row = session.execute(_WHOSE_TOKEN, {"digest": digest_of(token)}).one_or_none()
        if row is None:
            raise Unauthenticated("The token is unknown, expired or revoked.")
        account_id, session_id, role, plan, expires_at, now_ms = row
        left_ms = max(0, int(expires_at.timestamp() * 1000) - now_ms)
        actor = Actor(account_id=account_id, session_id=session_id, role=role, plan=plan)
        return Identified(actor, left_ms)

    def me(self, actor: Actor) -> AccountView:
        """The actor's own account.

        Raises:
            NotFound: it was deleted meanwhile.
        """
        with self._db.read() as session:
            account = session.get(Account, actor.account_id)
        if account is None:
            raise NotFound("account")
        return account_view(account)

    def give_plan(self, email: str, plan: str) -> None:
        """Put an account on a plan; it need not have rules. For operators.

        Raises:
            InvalidInput: a plan's name that cannot be.
            NotFound: no account has this address.
        """
        check_subject(f"plan:{plan}")
        account_id = self.id_of(email)
        mine = update(Account).where(Account.id == account_id)

        def change(session: Session) -> None:
            session.execute(mine.values(plan=plan, updated_at=db_now()))

        self._changes.commit(change, lambda _: stale_account(account_id))

    def id_of(self, email: str) -> UUID:
        """The account of an address; for operators.

        Raises:
            NotFound: there is none.
        """
        account = self._account_of(email)
        if account is None:
            raise NotFound("account")
        return account.id

    def _account_of(self, email: str) -> Account | None:
        try:
            wanted = normal_email(email)
        except ValueError:
            return None
        with self._db.read() as session:
            return session.scalar(select(Account).where(Account.email == wanted))

    def _open_session(self, account: Account, password: str) -> SessionView:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = datetime.now(UTC)
        expires_at = (now + self._session_ttl).replace(microsecond=0)
        renewed = self._passwords.renewed(account.password_hash, password)

        def store(session: Session) -> None:
            if not keep_as_read(session, account, for_change=renewed is not None):
                raise InvalidCredentials(_WRONG)
            session.add(
                AccountSession(
                    id=new_id(),
                    account_id=account.id,
                    token_hash=digest_of(token),
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            if renewed is not None:
                replace_hash(session, account, renewed)

        self._db.retrying(store)
        return {
            "token": token,
            "token_type": "Bearer",
            "expires_at": rfc3339(expires_at),
            "account": account_view(account),
        }


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(raw(token)).hexdigest()
