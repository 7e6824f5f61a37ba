"""Large answers are compressed for who asks, under a tag of their own that counts as the same."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import compression
from tests.api.people import PASSWORD, Person, json_of

GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.fixture
def task(ann: Person) -> dict[str, Any]:
    """One whose JSON is large enough."""
    return ann.task(ann.project(), description="What is to be done. " * 100)


def read(person: Person, path: str, **headers: str) -> TestResponse:
    return person.get(
        path, headers={**GZIP, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def test_who_asks_for_it_gets_the_same_bytes_compressed(ann: Person, task: dict[str, Any]) -> None:
    plain, packed = ann.get(f"/tasks/{task['id']}"), read(ann, f"/tasks/{task['id']}")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert packed.content_length == len(packed.data) < len(plain.data) / 4
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"


def test_small_answers_are_left_alone(ann: Person) -> None:
    answer = read(ann, f"/tasks/{ann.task(ann.project())['id']}")
    assert "Content-Encoding" not in answer.headers
    assert answer.headers["ETag"] == '"v1"'


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br", "", "gzip;q=nonsense;"])
def test_who_does_not_take_it_does_not_get_it(
    ann: Person, task: dict[str, Any], accepted: str
) -> None:
    answer = read(ann, f"/tasks/{task['id']}", Accept_Encoding=accepted)
    assert "Content-Encoding" not in answer.headers
    assert json_of(answer) == task


def test_a_compressed_answer_has_a_strong_tag_of_its_own(ann: Person, task: dict[str, Any]) -> None:
    path = f"/tasks/{task['id']}"
    assert ann.get(path).headers["ETag"] == '"v1"'
    assert read(ann, path).headers["ETag"] == '"v1-gzip"'


@pytest.mark.parametrize("held", ['"v1"', '"v1-gzip"', 'W/"v1-gzip"', '"v7", "v1-gzip"'])
def test_either_tag_tells_that_it_is_held_already(
    ann: Person, task: dict[str, Any], held: str
) -> None:
    answer = read(ann, f"/tasks/{task['id']}", If_None_Match=held)
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == ('"v1-gzip"' if "gzip" in held else '"v1"')
    assert "Content-Encoding" not in answer.headers


def test_a_list_that_is_held_compressed_is_known_too(ann: Person) -> None:
    project = ann.project()
    for number in range(5):
        ann.task(project, f"Task {number}", description="What is to be done. " * 10)
    path = f"/projects/{project['id']}/tasks"
    first = read(ann, path)
    assert first.headers["Content-Encoding"] == "gzip"
    assert read(ann, path, If_None_Match=first.headers["ETag"]).status_code == 304
    ann.task(project)
    assert read(ann, path, If_None_Match=first.headers["ETag"]).status_code == 200


def test_a_change_may_be_based_on_either_tag(ann: Person, task: dict[str, Any]) -> None:
    path, large = f"/tasks/{task['id']}", {**GZIP, "If-Match": '"v1-gzip"'}
    changed = ann.request("PATCH", path, json={"title": "New"}, headers=large)
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"v2-gzip"')
    assert ann.request("DELETE", path, headers=large).status_code == 412
    assert ann.request("DELETE", path, headers={"If-Match": '"v2-gzip"'}).status_code == 204


def test_an_answer_given_again_is_the_same_compressed_too(ann: Person) -> None:
    path, body = (
        f"/projects/{ann.project()['id']}/tasks",
        {"title": "T", "description": "x" * 2_000},
    )
    headers = {**GZIP, "Idempotency-Key": "one"}
    first, again = (ann.request("POST", path, json=body, headers=headers) for _ in range(2))
    assert first.headers["Content-Encoding"] == "gzip"
    assert again.data == first.data
    assert again.headers["ETag"] == first.headers["ETag"] == '"v1-gzip"'


def test_an_answer_with_a_secret_is_not_compressed(
    client: FlaskClient, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "LEAST_BYTES", 1)
    assert "Content-Encoding" in ann.get("/accounts/me", headers=GZIP).headers
    who = {"email": ann.email, "password": PASSWORD}
    answer = client.post("/api/v1/sessions", json=who, headers=GZIP)
    assert answer.status_code == 201
    assert "Content-Encoding" not in answer.headers


def test_the_document_is_compressed_too(client: FlaskClient) -> None:
    answer = client.get("/openapi.json", headers=GZIP)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b'"openapi":"3.1.0"' in gzip.decompress(answer.data)
    assert len(answer.data) < 20_000
