"""Personal access tokens: their scopes, their end, and that they make nobody the owner."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from sqlalchemy import update

from app.api import authentication
from app.db.models import AccessToken
from tests.api.operations import calls, owned
from tests.api.people import Person, json_of
from tests.support.database import column


def made(person: Person, *scopes: str, days: int = 30) -> dict[str, Any]:
    body = {"name": " backup ", "scopes": list(scopes), "days": days}
    answer = person.post("/access-tokens", body)
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = json_of(answer)
    return view


def by(token: dict[str, Any]) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {token['token']}"}}


def test_a_token_is_shown_once_and_kept_as_its_hash(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    token = made(ann, "read", "write", "read")
    assert token["token"].startswith("tfp_")
    assert (token["name"], token["scopes"]) == ("backup", ["read", "write"])
    assert json_of(ann.get("/accounts/me", **by(token))) == json_of(ann.get("/accounts/me"))
    without = {name: value for name, value in token.items() if name != "token"}
    assert json_of(ann.get("/access-tokens"))["items"] == [without]
    assert token["token"] not in str(column(ann.container.db, AccessToken.token_hash))


def test_scopes_say_what_it_may_do(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    reading, writing = made(ann, "read"), made(ann, "write")
    body = {"name": "House"}
    assert ann.get("/projects", **by(reading)).status_code == 200
    assert ann.post("/projects", body, **by(reading)).status_code == 403
    assert ann.get("/projects", **by(writing)).status_code == 403
    assert ann.post("/projects", body, **by(writing)).status_code == 201
    assert len(json_of(ann.get("/projects"))["items"]) == 1


def about_the_account(client: FlaskClient) -> list[Any]:
    heads = ("/api/v1/accounts", "/api/v1/sessions", "/api/v1/access-tokens", "/api/v1/admin")
    found = [call for call in calls(client) if call.path.startswith(heads) and not call.public]
    return [call for call in found if call.id != "me"]


def test_with_all_scopes_it_still_does_nothing_to_the_account(
    client: FlaskClient, ann: Person
) -> None:
    token, ids = made(ann.as_admin(), "read", "write"), owned(ann)
    found = about_the_account(client)
    assert len(found) >= 13
    for call in found:
        answer = ann.request(call.method, call.at(ids), **call.arguments, **by(token))
        assert (call.id, answer.status_code) == (call.id, 403)


def test_without_that_rule_it_would_have(
    client: FlaskClient, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(authentication, "LOG_IN_ONLY", frozenset())
    token, ids = made(ann, "read", "write"), owned(ann)
    answers = [
        ann.request(call.method, call.at(ids), **call.arguments, **by(token)).status_code
        for call in about_the_account(client)
        if not call.for_admins
    ]
    assert 403 not in answers


def test_it_ends_by_itself_and_when_it_is_revoked(ann: Person) -> None:
    first, second = made(ann, "read"), made(ann, "read", days=366)
    assert ann.request("DELETE", f"/access-tokens/{first['id']}").status_code == 204
    assert [ann.get("/projects", **by(each)).status_code for each in (first, second)] == [401, 200]
    assert ann.request("DELETE", f"/access-tokens/{first['id']}").status_code == 404
    third = made(ann, "read")
    with ann.container.db.write() as session:
        ended = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(AccessToken).values(expires_at=ended))
    assert ann.get("/projects", **by(third)).status_code == 401


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"scopes": []}, "scopes"), ({"scopes": ["admin"]}, "scopes.0"), ({"days": 0}, "days"),
     ({"days": 367}, "days"), ({"name": " "}, "name"), ({"account_id": "x"}, "account_id")],
)  # fmt: skip
def test_what_is_out_of_bounds_is_named(ann: Person, changed: dict[str, Any], field: str) -> None:
    refused = ann.post("/access-tokens", {"name": "b", "scopes": ["read"], **changed})
    assert (refused.status_code, json_of(refused)["errors"][0]["field"]) == (422, field)
    assert json_of(ann.get("/access-tokens"))["items"] == []
