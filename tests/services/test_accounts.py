"""Accounts, log-in and tokens."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from app.db.enums import Role
from app.db.models import Account, AccountSession
from app.errors import (
    Conflict,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    TaskFlowError,
    Unauthenticated,
)
from app.services.accounts import AccountService
from app.services.actor import Actor
from app.services.passwords import Passwords
from app.services.ports import ACCOUNT
from app.services.views import SessionView
from tests.services.conftest import CHEAP, World
from tests.support.database import column

PASSWORD = "correct horse battery"


class CountingHasher(PasswordHasher):
    """Argon2 that writes down which hashes it was asked to verify."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.verified.append(hash)
        return super().verify(hash, password)


def _registered(world: World, email: str = "Cleo@Example.com") -> UUID:
    view = world.accounts.register(email=email, password=PASSWORD, name=" Cleo ")
    return UUID(view["id"])


def _log_in(world: World, email: str = "cleo@example.com") -> SessionView:
    return world.accounts.log_in(email=email, password=PASSWORD)


def _why_not(service: AccountService, email: str, password: str) -> str:
    with pytest.raises(InvalidCredentials) as refused:
        service.log_in(email=email, password=password)
    return str(refused.value)


def test_an_account_is_a_user_with_its_address_in_lower_case(world: World) -> None:
    view = world.accounts.register(email=" Cleo@Example.COM ", password=PASSWORD, name=" Cleo ")
    assert (view["email"], view["name"], view["role"]) == ("cleo@example.com", "Cleo", "user")
    assert "password" not in str(view)


def test_an_operator_can_make_an_admin_and_no_other_word(world: World) -> None:
    given = {"email": "root@example.com", "password": PASSWORD, "name": "Root"}
    assert world.accounts.create(**given, role=Role.ADMIN)["role"] == "admin"
    with pytest.raises(InvalidInput) as refused:
        world.accounts.create(**given, role="emperor")
    assert [error.field for error in refused.value.errors] == ["role"]


def test_an_address_is_taken_once_whatever_its_case(world: World) -> None:
    _registered(world)
    with pytest.raises(Conflict):
        _registered(world, "CLEO@example.com")
    assert len(column(world.db, Account.id)) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "nobody"),
        ("email", "a\x00b@example.com"),
        ("email", "\ud800@example.com"),
        ("password", "x" * 7),
        ("password", "x" * 129),
        ("password", "eight\x00 or more"),
        ("name", "   "),
        ("name", "x" * 201),
    ],
)
def test_each_field_out_of_bounds_is_named_and_nothing_is_stored(
    world: World, field: str, value: str
) -> None:
    given = {"email": "cleo@example.com", "password": PASSWORD, "name": "Cleo", field: value}
    with pytest.raises(InvalidInput) as refused:
        world.accounts.register(**given)
    assert [error.field for error in refused.value.errors] == [field]
    assert len(column(world.db, Account.id)) == 2


@pytest.mark.parametrize("password", ["4 and 4.", "wxyz?" * 25 + "a b", "pässwörd 密码"])
def test_passwords_at_the_bounds_log_in(world: World, password: str) -> None:
    world.accounts.register(email="cleo@example.com", password=password, name="Cleo")
    assert world.accounts.log_in(email="cleo@example.com", password=password)["token"]


def test_the_token_of_a_log_in_authenticates_its_account(world: World) -> None:
    account_id = _registered(world)
    session = _log_in(world, " CLEO@example.com")
    actor = world.accounts.identify(session["token"]).actor
    assert (actor.account_id, actor.role) == (account_id, "user")
    assert session["token_type"] == "Bearer"
    assert session["account"]["id"] == str(account_id)
    assert world.accounts.me(actor)["email"] == "cleo@example.com"


def test_the_database_knows_the_tokens_hash_and_never_the_token(world: World) -> None:
    _registered(world)
    token = _log_in(world)["token"]
    assert column(world.db, AccountSession.token_hash) == [
        hashlib.sha256(token.encode()).hexdigest()
    ]
    assert len(token) >= 43


def test_unknown_address_wrong_password_and_disabled_account_are_told_alike(world: World) -> None:
    _registered(world)
    _registered(world, "gone@example.com")
    with world.db.write() as session:
        gone = update(Account).where(Account.email == "gone@example.com")
        session.execute(gone.values(disabled_at=datetime.now(UTC)))
    answers = {
        _why_not(world.accounts, "nobody@example.com", PASSWORD),
        _why_not(world.accounts, "not an address \x00", PASSWORD),
        _why_not(world.accounts, "cleo@example.com", "wrong password"),
        _why_not(world.accounts, "cleo@example.com", "\ud800"),
        _why_not(world.accounts, "gone@example.com", PASSWORD),
    }
    assert len(answers) == 1
    assert column(world.db, AccountSession.id) == []


def test_one_verification_is_made_for_unknown_addresses_as_for_known_ones(world: World) -> None:
    _registered(world)
    hasher = CountingHasher()
    service = AccountService(
        world.db, world.changes, Passwords(hasher, at_once=1), session_ttl_s=60
    )
    _why_not(service, "nobody@example.com", PASSWORD)
    _why_not(service, "not an address", PASSWORD)
    _why_not(service, "cleo@example.com", "wrong password")
    assert len(hasher.verified) == 3
    assert len(set(hasher.verified)) == 2
    assert all(str(verified).startswith("$argon2id$") for verified in hasher.verified)


def test_a_log_in_renews_a_hash_of_older_parameters(world: World) -> None:
    _registered(world)
    before = set(column(world.db, Account.password_hash))
    stronger = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    service = AccountService(
        world.db, world.changes, Passwords(stronger, at_once=1), session_ttl_s=60
    )
    service.log_in(email="cleo@example.com", password=PASSWORD)
    renewed = set(column(world.db, Account.password_hash)) - before
    assert len(renewed) == 1
    assert not stronger.check_needs_rehash(renewed.pop())
    assert len(before & set(column(world.db, Account.password_hash))) == len(before) - 1
    service.log_in(email="cleo@example.com", password=PASSWORD)


def test_a_revoked_token_is_refused_at_the_next_request_and_others_are_not(world: World) -> None:
    _registered(world)
    first, second = _log_in(world)["token"], _log_in(world)["token"]
    actor = world.accounts.identify(first).actor
    world.accounts.log_out(actor)
    world.accounts.log_out(actor)
    with pytest.raises(Unauthenticated):
        world.accounts.identify(first)
    assert world.accounts.identify(second).actor.account_id == actor.account_id


def test_an_expired_token_is_refused(world: World) -> None:
    _registered(world)
    token = _log_in(world)["token"]
    with world.db.write() as session:
        session.execute(update(AccountSession).values(expires_at=datetime(2024, 1, 1, tzinfo=UTC)))
    with pytest.raises(Unauthenticated):
        world.accounts.identify(token)


def test_the_token_of_a_disabled_account_is_refused(world: World) -> None:
    _registered(world)
    token = _log_in(world)["token"]
    with world.db.write() as session:
        session.execute(update(Account).values(disabled_at=datetime.now(UTC)))
    with pytest.raises(Unauthenticated):
        world.accounts.identify(token)


@pytest.mark.parametrize("token", ["", "x", "\x00", "\ud800", "é" * 10_000])
def test_any_other_text_is_refused_as_a_token(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated):
        world.accounts.identify(token)


def test_a_session_lasts_as_long_as_it_was_told(world: World) -> None:
    _registered(world)
    service = AccountService(
        world.db, world.changes, Passwords(CHEAP, at_once=1), session_ttl_s=7_200
    )
    told = service.log_in(email="cleo@example.com", password=PASSWORD)["expires_at"]
    with world.db.read() as session:
        stored = session.query(AccountSession).one()
    assert told.endswith("Z")
    assert datetime.fromisoformat(told) == stored.expires_at
    assert 7_198 < (stored.expires_at - stored.created_at).total_seconds() <= 7_200


def test_an_account_that_was_deleted_is_not_there(world: World) -> None:
    nobody = Actor(account_id=UUID(int=1), session_id=None, role="user")
    with pytest.raises(NotFound):
        world.accounts.me(nobody)
    assert issubclass(NotFound, TaskFlowError)


def test_an_account_is_put_on_a_plan_by_its_address(world: World) -> None:
    world.accounts.give_plan(" ANN@example.com ", "big")
    with world.db.read() as session:
        plans = select(Account.email, Account.plan).order_by(Account.email)
        found = [tuple(row) for row in session.execute(plans)]
    assert found == [("ann@example.com", "big"), ("bob@example.com", "standard")]
    assert world.cache.invalidated == [(f"account:{world.ann.account_id}", (ACCOUNT,))]


def test_no_plan_is_given_to_nobody_or_without_a_name(world: World) -> None:
    with pytest.raises(NotFound):
        world.accounts.give_plan("nobody@example.com", "big")
    with pytest.raises(InvalidInput):
        world.accounts.give_plan("ann@example.com", "Big plan")
