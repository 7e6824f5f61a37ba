"""Refresh by rotation: each token is good once, and one that comes again ends its log-in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask_openapi import OpenAPI

from app.db.models import RefreshToken
from app.services import refresh as refresh_module
from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of
from tests.support.database import rows_in
from tests.support.waiting import eventually


def log_in(app: OpenAPI, person: Person) -> dict[str, Any]:
    who = {"email": person.email, "password": PASSWORD}
    found: dict[str, Any] = json_of(app.test_client().post("/api/v1/sessions", json=who))
    return found


def refresh(app: OpenAPI, tokens: dict[str, Any]) -> Any:
    body = {"refresh_token": tokens["refresh_token"]}
    return app.test_client().post("/api/v1/sessions/refresh", json=body)


def status(person: Person, tokens: dict[str, Any]) -> int:
    headers = {"Authorization": f"Bearer {tokens['token']}"}
    return person.get("/accounts/me", headers=headers).status_code


def test_a_refresh_gives_new_tokens_and_ends_those_of_before(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    first = log_in(any_app, ann)
    assert status(ann, first) == 200
    answer = refresh(any_app, first)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    second = json_of(answer)
    assert len({first["token"], first["refresh_token"], second["token"]}) == 3
    assert (status(ann, first), status(ann, second)) == (401, 200)
    assert len(json_of(ann.get("/sessions"))["items"]) == 2  # it is the same log-in
    assert refresh(any_app, second).status_code == 201


def test_a_used_one_ends_its_family_and_no_other_log_in(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    first, other = log_in(any_app, ann), log_in(any_app, ann)
    second = json_of(refresh(any_app, first))
    assert status(ann, second) == 200
    assert refresh(any_app, first).status_code == 401
    assert (status(ann, second), status(ann, other)) == (401, 200)
    assert refresh(any_app, second).status_code == 401
    assert refresh(any_app, other).status_code == 201


def test_without_the_note_that_it_was_used_a_stolen_one_would_live_on(
    app: OpenAPI, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(refresh_module, "_use", lambda *_: True)
    first = log_in(app, ann)
    assert [refresh(app, first).status_code for _ in range(2)] == [201, 201]


def test_of_two_at_once_with_one_token_one_is_answered_and_the_family_ends(
    any_app: OpenAPI,
) -> None:
    ann = Person(any_app, "ann")
    first = log_in(any_app, ann)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: refresh(any_app, first), range(4)))
    assert sorted(each.status_code for each in answers) == [201, 401, 401, 401]
    (good,) = [json_of(each) for each in answers if each.status_code == 201]
    assert status(ann, good) == 401


def test_a_token_ends_before_its_log_in_which_goes_on_by_a_refresh(
    make_app: MakeApp, ready_url: str
) -> None:
    app = make_app(DATABASE_URL=ready_url, ACCESS_TTL_S="1")
    ann = Person(app, "ann")
    first = log_in(app, ann)
    assert first["expires_at"] < first["refresh_expires_at"]
    eventually(lambda: status(ann, first) == 401, what="the token's end")
    assert status(ann, json_of(refresh(app, first))) == 200


@pytest.mark.parametrize("token", ["", "x", "é" * 200])
def test_any_other_text_is_refused_alike(app: OpenAPI, token: str) -> None:
    client = app.test_client()
    answer = client.post("/api/v1/sessions/refresh", json={"refresh_token": token})
    assert answer.status_code == 401


def test_an_ended_log_in_and_a_disabled_account_refresh_nothing(app: OpenAPI, ann: Person) -> None:
    first = log_in(app, ann)
    ann.token = first["token"]
    assert ann.request("DELETE", "/sessions/current").status_code == 204
    assert refresh(app, first).status_code == 401
    second, root = log_in(app, ann), Person(app, "root").as_admin()
    root.post(f"/admin/accounts/{ann.id}/disable")
    assert refresh(app, second).status_code == 401
    assert rows_in(ann.container.db, RefreshToken) == 4
