"""Accounts and log-ins: what tells nothing, and what ends at once."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of
from tests.support.waiting import eventually


def _register(client: FlaskClient, **changed: Any) -> int:
    who = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann", **changed}
    return client.post("/api/v1/accounts", json=who).status_code


def test_an_account_can_be_registered_and_read(any_app: OpenAPI) -> None:
    me = Person(any_app, "ann").get("/accounts/me")
    assert me.status_code == 200
    assert (json_of(me)["email"], json_of(me)["name"], json_of(me)["role"]) == (
        "ann@example.com",
        "Ann",
        "user",
    )
    assert set(json_of(me)) == {*("id", "email", "name", "role", "email_verified_at", "created_at")}


@pytest.mark.parametrize(
    "changed",
    [{"email": "no-address"}, {"email": "a" * 250 + "@example.com"}, {"password": "7 chars"},
     {"password": "x" * 129}, {"name": ""}, {"name": "  "}, {"name": "x" * 201}, {"role": "admin"}],
)  # fmt: skip
def test_a_registration_out_of_bounds_is_refused(client: FlaskClient, changed: Any) -> None:
    assert _register(client, **changed) == 422


def test_passwords_at_both_bounds_are_taken_as_typed(client: FlaskClient) -> None:
    for number, password in enumerate((" 8 chars", "no rhyme" * 16)):
        email = f"n{number}@example.com"
        assert _register(client, email=email, password=password) == 201
        who = {"email": email, "password": password}
        assert client.post("/api/v1/sessions", json=who).status_code == 201
        stripped = {"email": email, "password": password.strip() + "!"}
        assert client.post("/api/v1/sessions", json=stripped).status_code != 201


def test_a_log_in_does_not_tell_an_unknown_address_from_a_wrong_password(
    client: FlaskClient, ann: Person
) -> None:
    answers = [
        client.post("/api/v1/sessions", json={"email": email, "password": "not the password"})
        for email in (ann.email, "nobody@example.com", "not-an-address", "")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1
    assert len({tuple(sorted(_telling(answer.headers).items())) for answer in answers}) == 1


def _telling(headers: Any) -> dict[str, str]:
    """All headers but those that differ at every request."""
    counted = ("ratelimit", "x-ratelimit", "x-request-id", "retry-after")
    return {k: v for k, v in headers.items() if not k.lower().startswith(counted)}


def test_an_address_is_the_same_in_any_case(client: FlaskClient, ann: Person) -> None:
    who = {"email": f"  {ann.email.upper()} ", "password": PASSWORD}
    assert client.post("/api/v1/sessions", json=who).status_code == 201
    assert _register(client, email=ann.email.title()) == 409


def test_a_revoked_session_is_refused_at_the_next_request(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    assert ann.request("DELETE", "/sessions/current").status_code == 204
    refused = ann.get("/accounts/me")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_logging_out_ends_this_session_only(ann: Person) -> None:
    first, ann.token = ann.token, ann.log_in()
    assert ann.request("DELETE", "/sessions/current").status_code == 204
    assert ann.get("/accounts/me").status_code == 401
    ann.token = first
    assert ann.get("/accounts/me").status_code == 200


def test_a_session_ends_by_itself(make_app: MakeApp, ready_url: str) -> None:
    ann = Person(make_app(DATABASE_URL=ready_url, SESSION_TTL_S="1"), "ann")
    eventually(lambda: ann.get("/accounts/me").status_code == 401, timeout_s=10)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", "bearer x y", "Basic YTpi", "Token x", "x" * 4_000],
)
def test_anything_but_a_good_bearer_token_is_refused(ann: Person, header: str) -> None:
    answer = ann.get("/accounts/me", headers={"Authorization": header})
    assert answer.status_code == 401


def test_the_scheme_is_taken_in_any_case(ann: Person) -> None:
    headers = {"Authorization": f"bearer {ann.token}"}
    assert ann.get("/accounts/me", headers=headers).status_code == 200


def test_a_token_is_shown_once_and_never_cached(client: FlaskClient, ann: Person) -> None:
    who = {"email": ann.email, "password": PASSWORD}
    answer = client.post("/api/v1/sessions", json=who)
    assert answer.headers["Cache-Control"] == "no-store"
    assert json_of(answer)["token_type"] == "Bearer"
    assert json_of(answer)["account"]["email"] == ann.email
    assert json_of(answer)["token"] not in ann.get("/accounts/me").text
