"""Errors have one shape, and say nothing of what is inside."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from werkzeug.test import TestResponse

from app import errors
from app.api import problems
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.ports import free_port

SHAPE = {"type", "title", "status", "detail", "instance"}
INSIDE = re.compile(r'Traceback|File "|\.py\b|sqlalchemy|psycopg|127\.0\.0\.1')


def check(answer: TestResponse, status: int, slug: str) -> dict[str, Any]:
    """The answer is a problem of this kind, and its body holds nothing of the inside."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = json_of(answer)
    assert set(body) - {"errors"} == SHAPE
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["instance"] == answer.request.path
    assert not INSIDE.search(answer.text)
    return body


def test_malformed_json_is_a_400(ann: Person) -> None:
    answer = ann.request("POST", "/projects", data="{", content_type="application/json")
    check(answer, 400, "malformed")


@pytest.mark.parametrize("body", ["NaN", '{"name": "\\ud800"}', "[" * 2_000, "\xff"])
def test_json_that_strict_readers_refuse_is_a_400(ann: Person, body: str) -> None:
    data = body.encode("latin-1")
    answer = ann.request("POST", "/projects", data=data, content_type="application/json")
    check(answer, 400, "malformed")


def test_no_token_is_a_401_that_asks_for_one(client: FlaskClient) -> None:
    answer = client.get("/api/v1/accounts/me")
    check(answer, 401, "not-logged-in")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_address_is_a_404(client: FlaskClient, ann: Person) -> None:
    check(client.get("/nothing/here"), 404, "not-found")
    check(ann.get("/tasks/not-a-uuid"), 404, "not-found")


def test_a_wrong_method_is_a_405_that_names_the_right_ones(ann: Person) -> None:
    answer = ann.request("PUT", "/projects")
    check(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_a_taken_address_is_a_409(ann: Person, client: FlaskClient) -> None:
    who = {"email": ann.email.upper(), "password": "long enough", "name": "Other Ann"}
    check(client.post("/api/v1/accounts", json=who), 409, "conflict")


def test_a_stale_version_is_a_412(ann: Person) -> None:
    project = ann.project()
    path = f"/projects/{project['id']}"
    assert ann.patch(path, {"name": "Flat"}, version=1).status_code == 200
    check(ann.patch(path, {"name": "Boat"}, version=1), 412, "stale-version")


def test_a_body_over_the_limit_is_a_413(ann: Person) -> None:
    body = b'{"name": "' + b"x" * 1_048_576 + b'"}'
    answer = ann.request("POST", "/projects", data=body, content_type="application/json")
    check(answer, 413, "too-large")


def test_a_chunked_body_over_the_limit_is_a_413_and_not_cut_off(ann: Person) -> None:
    """What is left after the cut may well be readable: here, an object and some spaces."""
    answer = ann.request(
        "POST",
        "/projects",
        input_stream=BytesIO(b'{"name": "x"}' + b" " * 2_000_000 + b"and more"),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    check(answer, 413, "too-large")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_json_is_a_415(ann: Person, content_type: str | None) -> None:
    answer = ann.request("POST", "/projects", data='{"name": "x"}', content_type=content_type)
    check(answer, 415, "not-json")


def test_wrong_fields_are_a_422_that_names_each(ann: Person) -> None:
    project = ann.project()
    wrong = {"title": "", "priority": "huge", "due_at": "2030-01-31T17:00:00", "labels": [7]}
    body = check(ann.post(f"/projects/{project['id']}/tasks", wrong), 422, "invalid-input")
    assert {each["field"] for each in body["errors"]} == {"title", "priority", "due_at", "labels.0"}
    assert all(set(each) == {"field", "message"} for each in body["errors"])


def test_what_was_sent_is_not_repeated_in_a_422(client: FlaskClient) -> None:
    who = {"email": "ann@example.com", "password": "secret", "name": "Ann"}
    answer = client.post("/api/v1/accounts", json=who)
    check(answer, 422, "invalid-input")
    assert "secret" not in answer.text


def test_a_change_without_a_version_is_a_428(ann: Person) -> None:
    project = ann.project()
    path = f"/projects/{project['id']}"
    check(ann.request("DELETE", path), 428, "version-needed")
    check(ann.request("PATCH", path, json={"name": "Flat"}), 428, "version-needed")


def test_a_bug_is_a_500_that_only_the_log_explains(
    make_app: MakeApp, ready_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(DATABASE_URL=ready_url)

    @app.get("/api/v1/bug")
    def bug() -> str:
        raise RuntimeError("the secret inside")

    ann = Person(app, "ann")
    answer = ann.get("/bug", headers={"X-Request-ID": "find-me"})
    check(answer, 500, "internal-error")
    assert "secret inside" not in answer.text
    logged = capsys.readouterr().err
    assert "the secret inside" in logged
    assert "find-me" in logged


def test_an_error_without_a_row_in_the_table_is_a_500(app: OpenAPI) -> None:
    @app.get("/api/v1/unexpected")
    def unexpected() -> str:
        raise errors.FencedOut("A newer fence exists.")

    check(Person(app, "ann").get("/unexpected"), 500, "internal-error")


def test_a_lost_database_is_a_503_that_says_when_to_come_back(make_app: MakeApp) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    client = make_app(DATABASE_URL=url).test_client()
    who = {"email": "ann@example.com", "password": "long enough"}
    for answer in (
        client.post("/api/v1/sessions", json=who),
        client.get("/api/v1/projects", headers={"Authorization": "Bearer any"}),
    ):
        check(answer, 503, "database-unavailable")
        assert answer.headers["Retry-After"] == "2"


def test_every_problem_type_can_be_looked_up(client: FlaskClient) -> None:
    assert len(problems.KINDS) >= 15
    for slug, kind in problems.KINDS.items():
        answer = client.get(f"/problems/{slug}")
        assert answer.status_code == 200
        assert answer.text == f"{kind.title} ({kind.status})\n"
    check(client.get("/problems/none-such"), 404, "not-found")
