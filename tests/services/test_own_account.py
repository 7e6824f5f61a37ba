"""One's own account: what a change of its password meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from argon2 import PasswordHasher

from app.db.models import AccountSession
from app.errors import InvalidCredentials, InvalidInput
from app.services import accounts
from app.services.accounts import AccountService
from app.services.own_account import OwnAccountService
from app.services.passwords import Passwords
from app.services.ports import ACCOUNT
from tests.services.conftest import World
from tests.support.database import column

OLD, NEW = "correct horse", "battery staple"
CLEO = "cleo@example.com"


class Interrupted(PasswordHasher):
    """Argon2 after whose next verification something else happens first."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.then: Callable[[], object] = lambda: None

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        verified, then = super().verify(hash, password), self.then
        self.then = lambda: None
        then()
        return verified


def meeting(world: World) -> tuple[AccountService, OwnAccountService]:
    """The services, and what changes Cleo's password while theirs verify it."""
    world.accounts.register(email=CLEO, password=OLD, name="Cleo")
    actor = world.accounts.identify(world.accounts.log_in(email=CLEO, password=OLD)["token"]).actor
    hasher = Interrupted()
    passwords = Passwords(hasher, at_once=2)

    def change() -> None:
        world.own_account.change_password(actor, current_password=OLD, new_password=NEW)

    hasher.then = change
    service = AccountService(world.db, world.changes, passwords, session_ttl_s=60)
    return service, OwnAccountService(world.db, world.changes, passwords)


def test_a_log_in_by_a_password_that_is_changed_meanwhile_opens_no_session(world: World) -> None:
    service, _ = meeting(world)
    with pytest.raises(InvalidCredentials):
        service.log_in(email=CLEO, password=OLD)
    assert len(column(world.db, AccountSession.id)) == 1


def test_without_a_second_look_it_would_have(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr(accounts, "keep_as_read", lambda *_, **__: True)
    service, _ = meeting(world)
    assert service.log_in(email=CLEO, password=OLD)["token"]


def test_of_two_changes_at_once_one_is_refused(world: World) -> None:
    _, own = meeting(world)
    session = world.accounts.log_in(email=CLEO, password=OLD)
    actor = world.accounts.identify(session["token"]).actor
    with pytest.raises(InvalidInput):
        own.change_password(actor, current_password=OLD, new_password="another one")
    assert world.accounts.log_in(email=CLEO, password=NEW)["token"]
    assert world.cache.invalidated == [(f"account:{actor.account_id}", (ACCOUNT,))]
