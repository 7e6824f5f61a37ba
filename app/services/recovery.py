"""What a mailed token is good for: another password, and that an address is one's own."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import mailed_tokens
from app.db.account_rows import end_access_tokens, end_sessions
from app.db.engine import Database
from app.db.enums import MailPurpose, Role
from app.db.models import Account
from app.db.types import db_now
from app.errors import FieldError, InvalidInput, PostBusy
from app.services.accounts import normal_email
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.issuing import digest_of, new_token
from app.services.mail import Mail
from app.services.password_rules import check_password
from app.services.passwords import Passwords
from app.services.ports import stale_account
from app.services.post import Post

_TTL = {MailPurpose.RESET: timedelta(hours=1), MailPurpose.VERIFY: timedelta(days=7)}
_BETWEEN = timedelta(minutes=1)  # nobody's mailbox is filled from a hundred addresses
_SUBJECT = {
    MailPurpose.RESET: "TaskFlow: another password",
    MailPurpose.VERIFY: "TaskFlow: your address",
}
_TEXT = {
    MailPurpose.RESET: (
        "Somebody asked for another password for the account with this address.\n"
        "If it was you, set one with this token; it is good once, and for an hour:\n\n{token}\n\n"
        "If it was not, there is nothing to do.\n"
    ),
    MailPurpose.VERIFY: (
        "Confirm that this address is yours with this token; it is good once, and for 7 days:\n\n"
        "{token}\n\nIf you have no account at TaskFlow, there is nothing to do.\n"
    ),
}


class RecoveryService:
    """Mails tokens, and takes them back. The database knows only their SHA-256."""

    def __init__(self, db: Database, changes: Changes, passwords: Passwords, post: Post) -> None:
        self._db, self._changes, self._passwords, self._post = db, changes, passwords, post

    def request_reset(self, email: str) -> None:
        """Mail a token to the account of this address, if there is one.

        Whether there is one is looked up in the background: neither the answer nor its time tells.

        Raises:
            PostBusy: too many mails are waiting, whoever asks.
        """
        self._post.hand_in(partial(self._write_to, email))

    def request_verification(self, actor: Actor) -> None:
        """Mail a token to the actor's own address, unless that is verified.

        Raises:
            PostBusy: too many mails are waiting.
        """
        wanted = (Account.id == actor.account_id) & Account.email_verified_at.is_(None)
        self._post.hand_in(partial(self._write, wanted, MailPurpose.VERIFY))

    def greet(self, account_id: UUID) -> None:
        """As `request_verification`, for an account just registered; not if mail is waiting."""
        with contextlib.suppress(PostBusy):
            self.request_verification(Actor(account_id, None, Role.USER))

    def reset(self, *, token: str, password: str) -> None:
        """Set another password by a mailed token, and end all sessions and personal tokens.

        The address is verified by that too.

        Raises:
            InvalidInput: the token is unknown, used or too old, or the password cannot be taken.
            HashingBusy: too many passwords are being checked.
        """
        digest = digest_of(token)
        with self._db.read() as session:
            account = session.scalar(mailed_tokens.account_of(digest, MailPurpose.RESET))
        if account is None:
            raise _no_token()
        check_password(password, own=(account.email, account.name))
        new_hash = self._passwords.hash(password)

        def change(session: Session) -> UUID:
            account_id = _used(session, digest, MailPurpose.RESET)
            mine = update(Account).where(Account.id == account_id)
            session.execute(mine.values(password_hash=new_hash, **_verified()))
            end_sessions(session, account_id)
            end_access_tokens(session, account_id)
            return account_id

        self._changes.commit(change, stale_account)

    def verify(self, token: str) -> None:
        """Note that the account's address is its owner's.

        Raises:
            InvalidInput: the token is unknown, used or too old.
        """

        def change(session: Session) -> UUID:
            account_id = _used(session, digest_of(token), MailPurpose.VERIFY)
            session.execute(update(Account).where(Account.id == account_id).values(**_verified()))
            return account_id

        self._changes.commit(change, stale_account)

    def _write_to(self, email: str) -> Mail | None:
        try:
            wanted = Account.email == normal_email(email)
        except ValueError:
            return None
        return self._write(wanted, MailPurpose.RESET)

    def _write(self, wanted: ColumnElement[bool], purpose: MailPurpose) -> Mail | None:
        """The mail with a new token; None where nobody is to have one."""
        token = new_token()

        def store(session: Session) -> str | None:
            account = session.scalar(select(Account).where(wanted, Account.disabled_at.is_(None)))
            if account is None or mailed_tokens.is_recent(
                session, account.id, purpose, age=_BETWEEN
            ):
                return None
            mailed_tokens.keep(
                session, account.id, purpose, token_hash=digest_of(token), ttl=_TTL[purpose]
            )
            return account.email

        try:
            to = self._db.retrying(store)
        except IntegrityError:  # somebody else has just had one sent
            return None
        text = _TEXT[purpose].format(token=token)
        return None if to is None else Mail(to, _SUBJECT[purpose], text)


def _used(session: Session, digest: str, purpose: MailPurpose) -> UUID:
    account_id = mailed_tokens.use(session, digest, purpose)
    if account_id is None:
        raise _no_token()
    return account_id


def _verified() -> dict[str, Any]:
    verified_at = func.coalesce(Account.email_verified_at, db_now())
    return {"email_verified_at": verified_at, "updated_at": db_now()}


def _no_token() -> InvalidInput:
    wrong = FieldError("token", "is unknown, used or too old; ask for another")
    return InvalidInput("The token cannot be taken.", [wrong])
