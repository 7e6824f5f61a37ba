"""Accounts and their sessions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.account_rows import keep_as_read, replace_hash
from app.db.engine import Database
from app.db.enums import Role
from app.db.models import Account, AccountSession
from app.db.token_rows import WHOSE_ACCESS_TOKEN, WHOSE_SESSION
from app.db.types import db_now, new_id
from app.errors import Conflict, InvalidCredentials, NotFound, Unauthenticated
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.issuing import PERSONAL, Issued, Lifetimes, digest_of
from app.services.limit_rules import check_subject
from app.services.password_rules import check_password, sized
from app.services.passwords import Passwords
from app.services.ports import stale_account
from app.services.text_rules import checked, text_rule, word_rule
from app.services.views import AccountView, SessionView, account_view

NAME_MAX = 200
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


class Identified(NamedTuple):
    """Whose a token is, and for how long it is good, ms."""

    actor: Actor
    left_ms: int


class AccountService:
    """Registers, logs in and out, and says who a token belongs to.

    Args:
        session_ttl_s: how long a session lasts, in seconds.
        access_ttl_s: how long its tokens last, each until the next refresh; None: as long.
        greet: told of each account that somebody has registered.
    """

    def __init__(
        self,
        db: Database,
        changes: Changes,
        passwords: Passwords,
        session_ttl_s: int,
        access_ttl_s: int | None = None,
        *,
        greet: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self._greet = greet
        self._db, self._changes, self._passwords = db, changes, passwords
        self._lifetimes = Lifetimes.of(session_ttl_s, access_ttl_s or session_ttl_s)

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
        whose = WHOSE_ACCESS_TOKEN if token.startswith(PERSONAL) else WHOSE_SESSION
        with self._db.read() as session:
            row = session.execute(whose, {"digest": digest_of(token)}).one_or_none()
        if row is None:
            raise Unauthenticated("The token is unknown, expired or revoked.")
        account_id, session_id, role, plan, token_until, expires_at, now_ms, scopes = row
        left_ms = max(0, int((token_until or expires_at).timestamp() * 1000) - now_ms)
        actor = Actor(account_id, session_id, role, plan, None if scopes is None else tuple(scopes))
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
        fresh, session_id = Issued.anew(self._lifetimes), new_id()
        renewed = self._passwords.renewed(account.password_hash, password)

        def store(session: Session) -> None:
            if not keep_as_read(session, account, for_change=renewed is not None):
                raise InvalidCredentials(_WRONG)
            session.add(
                AccountSession(
                    id=session_id,
                    account_id=account.id,
                    created_at=fresh.now,
                    **fresh.columns(),
                )
            )
            session.flush()
            fresh.keep_refresh(session, session_id)
            if renewed is not None:
                replace_hash(session, account, renewed)

        self._db.retrying(store)
        return fresh.view(account)
