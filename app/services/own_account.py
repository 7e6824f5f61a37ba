"""One's own account: another password, and its end."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.account_rows import end_sessions, keep_as_read, memberships, replace_hash
from app.db.engine import Database
from app.db.enums import MemberRole
from app.db.models import Account
from app.errors import FieldError, InvalidInput, NotFound
from app.services.access import hold_project
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.members import let_go
from app.services.password_rules import check_password
from app.services.passwords import Passwords
from app.services.ports import stale_account, stale_with_projects


class OwnAccountService:
    """What somebody who is logged in does with the account as a whole."""

    def __init__(self, db: Database, changes: Changes, passwords: Passwords) -> None:
        self._db, self._changes, self._passwords = db, changes, passwords

    def change_password(self, actor: Actor, *, current_password: str, new_password: str) -> None:
        """Set another password, and end every other session of the account.

        Raises:
            InvalidInput: the current password is wrong, or the new one cannot be taken.
            HashingBusy: too many passwords are being checked.
        """
        account = self._account(actor)
        check_password(new_password, own=(account.email, account.name), field="new_password")
        if not self._passwords.verify(account.password_hash, current_password):
            raise _not_the("current_password")
        new_hash = self._passwords.hash(new_password)

        def change(session: Session) -> None:
            if not replace_hash(session, account, new_hash):
                raise _not_the("current_password")
            end_sessions(session, account.id, but=actor.session_id)

        self._changes.commit(change, lambda _: stale_account(account.id))

    def delete(self, actor: Actor, *, password: str) -> None:
        """Delete the account with all that is its own: projects, their tasks, log-ins, tokens.

        It leaves the projects of others, as `MemberService.remove` has it.

        Raises:
            InvalidInput: the password is wrong.
            HashingBusy: too many passwords are being checked.
        """
        account = self._account(actor)
        if not self._passwords.verify(account.password_hash, password):
            raise _not_the("password")

        def remove(session: Session) -> list[UUID]:
            # From here on nobody gives it another project: that would lock the account's row.
            if not keep_as_read(session, account, for_change=True):
                raise _not_the("password")
            roles = memberships(session, account.id)
            for project_id, role in roles.items():
                if role != MemberRole.OWNER:
                    project, _ = hold_project(session, actor, project_id)
                    let_go(session, actor, project, account.id)
            session.execute(delete(Account).where(Account.id == account.id))
            return list(roles)

        self._changes.commit(remove, lambda shown: stale_with_projects(account.id, shown))

    def _account(self, actor: Actor) -> Account:
        with self._db.read() as session:
            account = session.get(Account, actor.account_id)
        if account is None:
            raise NotFound("account")
        return account


def _not_the(field: str) -> InvalidInput:
    wrong = FieldError(field, "is not the account's password")
    return InvalidInput("The password is wrong.", [wrong])
