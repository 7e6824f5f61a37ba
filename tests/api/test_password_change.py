"""Another password: who may set it, which, and what ends with the old one."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from werkzeug.test import TestResponse

from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of

NEW = "battery staple"


def change(person: Person, current: str = PASSWORD, new: str = NEW) -> TestResponse:
    body = {"current_password": current, "new_password": new}
    return person.request("PUT", "/accounts/me/password", json=body)


def test_a_changed_password_ends_every_other_session_and_the_old_one_logs_nobody_in(
    any_app: OpenAPI,
) -> None:
    ann, bob = Person(any_app, "ann"), Person(any_app, "bob")
    elsewhere = ann.log_in()
    assert change(ann).status_code == 204
    assert ann.get("/accounts/me").status_code == 200
    headers = {"Authorization": f"Bearer {elsewhere}"}
    assert ann.get("/accounts/me", headers=headers).status_code == 401
    assert bob.get("/accounts/me").status_code == 200
    client = any_app.test_client()
    for password, status in ((PASSWORD, 401), (NEW, 201)):
        who = {"email": ann.email, "password": password}
        assert client.post("/api/v1/sessions", json=who).status_code == status


@pytest.mark.parametrize(
    ("current", "new", "field"),
    [
        ("not the password", NEW, "current_password"),
        (PASSWORD, "Password1!", "new_password"),
        (PASSWORD, "7 chars", "new_password"),
        (PASSWORD, "ann@example.com", "new_password"),
    ],
)
def test_a_refused_change_names_the_field_and_changes_nothing(
    client: FlaskClient, ann: Person, current: str, new: str, field: str
) -> None:
    elsewhere = ann.log_in()
    refused = change(ann, current, new)
    assert refused.status_code == 422
    assert [error["field"] for error in json_of(refused)["errors"]] == [field]
    ann.token = elsewhere
    assert ann.get("/accounts/me").status_code == 200
    who = {"email": ann.email, "password": PASSWORD}
    assert client.post("/api/v1/sessions", json=who).status_code == 201


def test_trying_the_current_password_is_limited_as_a_log_in_is_by_account(
    make_app: MakeApp, ready_url: str
) -> None:
    app = make_app(DATABASE_URL=ready_url, RATE_LIMIT_LOGIN_ACCOUNT="2/minute")
    ann, bob = Person(app, "ann"), Person(app, "bob")
    assert [change(ann, "wrong").status_code for _ in range(4)] == [422, 422, 429, 429]
    assert change(bob).status_code == 204
