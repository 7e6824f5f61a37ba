"""Admins: whom they see, what they change, and that nobody else does."""

from __future__ import annotations

from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.people import PASSWORD, Person, json_of


@pytest.fixture
def root(app: OpenAPI) -> Person:
    return Person(app, "root").as_admin()


def test_an_admin_lists_every_account_page_by_page_and_no_password(
    root: Person, ann: Person, bob: Person
) -> None:
    found, path = [], "/admin/accounts?limit=1"
    while path:
        page = json_of(root.get(path))
        found += page["items"]
        more = page["next_cursor"]
        path = f"/admin/accounts?limit=1&cursor={more}" if more else ""
    assert [each["email"] for each in found] == [root.email, ann.email, bob.email]
    assert [each["role"] for each in found] == ["admin", "user", "user"]
    assert "password" not in str(found)
    assert json_of(root.get(f"/admin/accounts/{ann.id}")) == found[1]


def test_a_user_may_list_nobody_and_sees_not_even_the_own_account_there(
    ann: Person, root: Person
) -> None:
    assert ann.get("/admin/accounts").status_code == 403
    for account_id in (ann.id, root.id, uuid4()):
        assert ann.get(f"/admin/accounts/{account_id}").status_code == 404
    answer = ann.request("PUT", f"/admin/accounts/{ann.id}/role", json={"role": "admin"})
    assert (answer.status_code, json_of(ann.get("/accounts/me"))["role"]) == (404, "user")


def test_a_disabled_account_is_refused_until_enabled_and_its_sessions_for_good(
    any_app: OpenAPI,
) -> None:
    ann, root = Person(any_app, "ann"), Person(any_app, "root").as_admin()
    disabled = root.post(f"/admin/accounts/{ann.id}/disable")
    assert disabled.status_code == 200
    assert json_of(root.post(f"/admin/accounts/{ann.id}/disable")) == json_of(disabled)
    assert ann.get("/accounts/me").status_code == 401
    who = {"email": ann.email, "password": PASSWORD}
    client = any_app.test_client()
    assert client.post("/api/v1/sessions", json=who).status_code == 401
    assert json_of(root.post(f"/admin/accounts/{ann.id}/enable"))["disabled_at"] is None
    assert ann.get("/accounts/me").status_code == 401
    ann.token = ann.log_in()
    assert ann.get("/accounts/me").status_code == 200


def test_a_role_is_given_and_taken_and_no_other_word(root: Person, ann: Person) -> None:
    path = f"/admin/accounts/{ann.id}/role"
    assert json_of(root.request("PUT", path, json={"role": "admin"}))["role"] == "admin"
    assert ann.get("/admin/accounts").status_code == 200
    refused = root.request("PUT", path, json={"role": "emperor"})
    assert (refused.status_code, json_of(refused)["errors"][0]["field"]) == (422, "role")
    assert json_of(root.request("PUT", path, json={"role": "user"}))["role"] == "user"
    assert ann.get("/admin/accounts").status_code == 403


def test_no_admin_locks_the_own_account_out(client: FlaskClient, root: Person) -> None:
    assert root.post(f"/admin/accounts/{root.id}/disable").status_code == 409
    path = f"/admin/accounts/{root.id}/role"
    assert root.request("PUT", path, json={"role": "user"}).status_code == 409
    assert json_of(root.get(f"/admin/accounts/{root.id}"))["role"] == "admin"
    assert client.get("/api/v1/admin/accounts").status_code == 401
