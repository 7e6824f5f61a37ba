"""What goes in: strict, in one form, the same on every database."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.operations import calls, owned
from tests.api.people import Person, json_of


def test_every_body_with_an_unknown_field_is_refused(client: FlaskClient, ann: Person) -> None:
    checked = 0
    for call in calls(client):
        if "json" in call.arguments:
            arguments = {**call.arguments, "json": {**call.arguments["json"], "surprise": 1}}
            answer = ann.request(call.method, call.at(owned(ann)), **arguments)
            assert (call.id, answer.status_code) == (call.id, 422)
            assert "surprise" in {each["field"] for each in json_of(answer)["errors"]}
            checked += 1
    assert checked == 17


@pytest.mark.parametrize("body", [b"[]", b'"{}"', b"null", b"7", b'"{\\"name\\": \\"x\\"}"'])
def test_json_that_is_no_object_is_refused(ann: Person, body: bytes) -> None:
    answer = ann.request("POST", "/projects", data=body, content_type="application/json")
    assert answer.status_code == 422
    assert json_of(answer)["detail"] == "The body must be a JSON object."


def test_an_unknown_or_wrong_query_parameter_is_refused(ann: Person) -> None:
    path = f"/projects/{ann.project()['id']}/tasks"
    for query in ("stat=pending", "limit=0", "limit=201", "order=due", "overdue=soon", "status="):
        answer = ann.get(f"{path}?{query}")
        assert (query, answer.status_code) == (query, 422)
        field = query.partition("=")[0]
        assert [each["field"] for each in json_of(answer)["errors"]] == [field]


def test_a_cursor_that_is_not_ours_is_refused(ann: Person) -> None:
    path = f"/projects/{ann.project()['id']}/tasks"
    for cursor in ("x", "%00", "W10", "eyJhIjoxfQ", "%F0%9F%98%80", "A" * 10_000):
        answer = ann.get(f"{path}?cursor={cursor}")
        assert (cursor, answer.status_code) == (cursor, 422)
        assert json_of(answer)["errors"][0]["field"] == "cursor"


def test_a_cursor_of_ours_written_at_length_is_refused(ann: Person) -> None:
    project = ann.project()
    wordy = f'["created",{" " * 3_000}"{project["id"]}"]'
    cursor = base64.urlsafe_b64encode(wordy.encode()).decode().rstrip("=")
    for path in (f"/projects/{project['id']}/tasks", "/projects"):
        answer = ann.get(f"{path}?cursor={cursor}")
        assert (answer.status_code, json_of(answer)["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.parametrize(
    "due_at",
    ["2030-01-31", "2030-01-31T17:00:00", 1_900_000_000, "1900000000", "soon", "", True,
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_a_due_time_needs_a_date_a_time_and_an_offset(ann: Person, due_at: Any) -> None:
    body = {"title": "Rent", "due_at": due_at}
    answer = ann.post(f"/projects/{ann.project()['id']}/tasks", body)
    assert answer.status_code == 422
    assert [each["field"] for each in json_of(answer)["errors"]] == ["due_at"]


def test_a_due_time_is_answered_in_utc(ann: Person) -> None:
    task = ann.task(ann.project(), due_at="2030-01-31T17:00:00+02:00")
    assert task["due_at"] == "2030-01-31T15:00:00Z"


def test_null_clears_what_can_be_empty_and_nothing_else(ann: Person) -> None:
    path = f"/tasks/{ann.task(ann.project(), due_at='2030-01-31T17:00:00Z')['id']}"
    cleared = ann.patch(path, {"due_at": None}, version=1)
    assert (cleared.status_code, json_of(cleared)["due_at"]) == (200, None)
    for field in ("title", "description", "status", "priority", "labels"):
        answer = ann.patch(path, {field: None}, version=2)
        assert (field, answer.status_code) == (field, 422)


def test_a_patch_leaves_alone_what_it_does_not_name(ann: Person) -> None:
    task = ann.task(ann.project(), description="Every month", labels=["home"], priority="high")
    after = json_of(ann.patch(f"/tasks/{task['id']}", {"title": "Power"}, version=1))
    expected = {**task, "title": "Power", "version": 2, "updated_at": after["updated_at"]}
    assert after == expected


def test_titles_are_stripped_and_may_not_be_empty(ann: Person) -> None:
    project = ann.project()
    assert ann.task(project, "  " + "x" * 500 + "  ")["title"] == "x" * 500
    for title in ("", "   ", "x" * 501, None, 7):
        answer = ann.post(f"/projects/{project['id']}/tasks", {"title": title})
        assert (title, answer.status_code) == (title, 422)


def test_labels_are_bounded(ann: Person) -> None:
    project = ann.project()
    for labels in (["x" * 51], [""], [str(n) for n in range(21)], "home", [None]):
        answer = ann.post(f"/projects/{project['id']}/tasks", {"title": "x", "labels": labels})
        assert (labels, answer.status_code) == (labels, 422)


def test_text_that_one_database_could_not_store_is_refused_by_both(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    project = ann.project()
    assert ann.post("/projects", {"name": "a\0b"}).status_code == 422
    for body in (
        {"title": "a\0b"},
        {"title": "a", "description": "\0"},
        {"title": "a", "labels": ["\0"]},
    ):
        assert ann.post(f"/projects/{project['id']}/tasks", body).status_code == 422
    who = {"email": "a\0b@example.com", "password": "long enough"}
    assert any_app.test_client().post("/api/v1/sessions", json=who).status_code == 422


def test_any_other_text_comes_back_as_it_was_sent(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    text = "Zażółć 任務 \U0001f600 \u202e <b>&amp;</b> '; DROP TABLE tasks; --"
    project = ann.project()
    task = ann.task(project, text, description=text, labels=[text[:50].strip()])
    assert (task["title"], task["description"]) == (text, text)
    assert json_of(ann.get(f"/tasks/{task['id']}")) == task
