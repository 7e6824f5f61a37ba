"""A POST that is sent again with its `Idempotency-Key` is done once, and answered the same."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from flask import request
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from sqlalchemy import update
from werkzeug.test import TestResponse

from app.api.context import actor
from app.db.models import IdempotencyKey
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask
from tests.api.operations import calls, owned
from tests.api.people import Person, json_of
from tests.api.test_problems import check
from tests.support.database import rows_in

KEY = "0f6e4a52-retry"
DAY_MS = 24 * 3_600_000


def post(person: Person, path: str, body: Any, key: str = KEY, **more: Any) -> TestResponse:
    return person.post(path, body, headers={"Idempotency-Key": key}, **more)


def same(answer: TestResponse) -> tuple[Any, ...]:
    """What a repeated answer must have in common with the first."""
    told = (answer.headers.get(name) for name in ("Location", "ETag", "Content-Type"))
    return (answer.status_code, answer.data, *told)


def test_the_first_answer_is_given_again_byte_for_byte(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    first, again = (post(ann, "/projects", {"name": "House"}) for _ in range(2))
    assert first.status_code == 201
    assert same(again) == same(first)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(json_of(ann.get("/projects"))["items"]) == 1


def test_every_post_that_takes_a_key_answers_the_same_twice(
    client: FlaskClient, ann: Person
) -> None:
    """A new POST is tested from the day it is there."""
    ann.as_admin()
    tried = 0
    for call in calls(client):
        if call.method == "POST" and not call.public and call.takes_key:
            ids = owned(ann)
            sent = call.sent(ids)
            headers = {**sent.pop("headers", {}), "Idempotency-Key": f"of-{call.id}"}
            first, again = (
                ann.request("POST", call.at(ids), headers=headers, **sent) for _ in range(2)
            )
            assert first.status_code < 300, (call.id, first.text)
            assert same(again) == same(first), call.id
            assert again.headers["Idempotent-Replayed"] == "true"
            tried += 1
    assert tried >= 2


def test_another_body_under_the_same_key_is_a_422(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    post(ann, "/projects", {"name": "House"})
    body = check(post(ann, "/projects", {"name": "Boat"}), 422, "invalid-input")
    assert [each["field"] for each in body["errors"]] == ["Idempotency-Key"]
    assert len(json_of(ann.get("/projects"))["items"]) == 1


def test_a_key_counts_for_one_account_and_one_path(ann: Person, bob: Person) -> None:
    project = ann.project()
    answers = [
        post(ann, "/projects", {"name": "House"}),
        post(bob, "/projects", {"name": "House"}),
        post(ann, f"/projects/{project['id']}/tasks", {"title": "Rent"}),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.headers["Location"] for answer in answers}) == 3


def test_what_was_refused_keeps_no_key(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    check(post(ann, "/projects", {"name": ""}), 422, "invalid-input")
    assert rows_in(any_app.extensions["taskflow"].db, IdempotencyKey) == 0
    assert post(ann, "/projects", {"name": "House"}).status_code == 201


def test_without_a_key_nothing_is_kept(app: OpenAPI, ann: Person) -> None:
    ann.project()
    assert rows_in(app.extensions["taskflow"].db, IdempotencyKey) == 0


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "ümlaut"])
def test_a_key_out_of_bounds_is_a_422_and_does_nothing(ann: Person, key: str) -> None:
    body = check(post(ann, "/projects", {"name": "House"}, key), 422, "invalid-input")
    assert [each["field"] for each in body["errors"]] == ["Idempotency-Key"]
    assert json_of(ann.get("/projects"))["items"] == []


@pytest.mark.parametrize("key", ["k", "k" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"'])
def test_keys_at_both_bounds_are_taken(ann: Person, key: str) -> None:
    assert post(ann, "/projects", {"name": "House"}, key).status_code == 201


def test_a_key_is_forgotten_after_a_day(any_app: OpenAPI) -> None:
    ann, db = Person(any_app, "ann"), any_app.extensions["taskflow"].db
    post(ann, "/projects", {"name": "House"})
    with db.write() as session:
        older = IdempotencyKey.created_ms - DAY_MS
        session.execute(update(IdempotencyKey).values(created_ms=older))
    assert post(ann, "/projects", {"name": "Boat"}).status_code == 201
    assert rows_in(db, IdempotencyKey) == 1


def test_an_answer_with_a_secret_is_never_kept(app: OpenAPI, ann: Person) -> None:
    who = {"email": ann.email, "password": "correct horse battery"}
    tokens = {json_of(post(ann, "/sessions", who))["token"] for _ in range(2)}
    assert len(tokens) == 2
    assert rows_in(app.extensions["taskflow"].db, IdempotencyKey) == 0


def test_a_handler_sees_what_it_wrote_and_no_cache_does_before_the_commit(
    app: OpenAPI,
) -> None:
    parts = app.extensions["taskflow"]

    @app.post("/api/v1/wrote")
    def wrote() -> tuple[dict[str, int], int]:
        project_id = UUID(request.args["project"])
        parts.tasks.create(actor(), project_id, NewTask(title="Rent"))
        found = parts.tasks.list(actor(), project_id, TaskQuery()).value
        return {"seen": len(found["items"])}, int(request.args["status"])

    ann = Person(app, "ann")
    project = ann.project()
    shown = f"/projects/{project['id']}/tasks"
    for status, left in ((500, 0), (200, 1)):
        assert len(json_of(ann.get(shown))["items"]) == 0
        answer = post(ann, f"/wrote?project={project['id']}&status={status}", None)
        assert (answer.status_code, json_of(answer)) == (status, {"seen": 1})
        assert len(json_of(ann.get(shown))["items"]) == left
