"""A client of the committed document goes on working; `make openapi` renews it at a release."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.people import json_of
from tests.support.child import ROOT
from tests.support.openapi_breaks import breaks

RELEASED = ROOT / "docs" / "openapi.json"
Document = dict[str, Any]
Change = Callable[[Document], object]


@pytest.fixture
def served(client: FlaskClient) -> Document:
    document: Document = json_of(client.get("/openapi.json"))
    return document


def schema(document: Document, name: str) -> Document:
    found: Document = document["components"]["schemas"][name]
    return found


def operation(document: Document, name: str) -> Document:
    items = (item for path in document["paths"].values() for item in path.values())
    return next(each for each in items if each["operationId"] == name)


def fields(document: Document, name: str) -> Document:
    found: Document = schema(document, name)["properties"]
    return found


def parameter(document: Document, of: str, name: str) -> Document:
    return next(each for each in operation(document, of)["parameters"] if each["name"] == name)


def remove_parameter(document: Document) -> None:
    listed = operation(document, "list_tasks")["parameters"]
    listed.remove(parameter(document, "list_tasks", "status"))


BREAKING: dict[str, Change] = {
    "GET /api/v1/tasks/{task_id} is gone": lambda d: d["paths"]["/api/v1/tasks/{task_id}"].pop(
        "get"
    ),
    "is called read_task now": lambda d: operation(d, "get_task").update(operationId="read_task"),
    "needs a log-in now": lambda d: operation(d, "register").pop("security"),
    "no longer takes status": remove_parameter,
    "needs cursor now": lambda d: parameter(d, "list_tasks", "cursor").update(required=True),
    "limit has maximum 50 now": lambda d: parameter(d, "list_tasks", "limit")["schema"].update(
        maximum=50
    ),
    "body.title is no longer taken": lambda d: fields(d, "NewTaskBody").pop("title"),
    "body.due_at is needed now": lambda d: schema(d, "NewTaskBody")["required"].append("due_at"),
    "body.due_at may no longer be null": lambda d: fields(d, "NewTaskBody")["due_at"][
        "anyOf"
    ].pop(),
    "body.priority no longer takes urgent": lambda d: schema(d, "Priority")["enum"].remove(
        "urgent"
    ),
    "body.title has maxLength 10 now": lambda d: fields(d, "NewTaskBody")["title"].update(
        maxLength=10
    ),
    "no longer answers 201": lambda d: operation(d, "create_task")["responses"].pop("201"),
    "no longer answers with ETag": lambda d: operation(d, "get_task")["responses"]["200"][
        "headers"
    ].pop("ETag"),
    "answer.items.[].title is no longer there": lambda d: fields(d, "Task").pop("title"),
    "answer.version may be string now": lambda d: fields(d, "Task")["version"].update(
        type="string"
    ),
}
HARMLESS: dict[str, Change] = {
    "another path": lambda d: d["paths"].update({"/api/v1/new": d["paths"]["/api/v1/projects"]}),
    "another optional field": lambda d: fields(d, "NewTaskBody").update(more={"type": "string"}),
    "another answered field": lambda d: fields(d, "Task").update(more={"type": "string"}),
    "another word": lambda d: schema(d, "Priority")["enum"].append("someday"),
    "a wider bound": lambda d: fields(d, "NewTaskBody")["title"].update(maxLength=9_000),
    "another refusal": lambda d: operation(d, "get_task")["responses"].update({"410": {}}),
}


def test_what_is_served_breaks_no_client_of_the_last_release(served: Document) -> None:
    assert breaks(orjson.loads(RELEASED.read_bytes()), served) == []


@pytest.mark.parametrize("told", BREAKING)
def test_a_change_that_breaks_a_client_is_told(served: Document, told: str) -> None:
    changed = copy.deepcopy(served)
    BREAKING[told](changed)
    assert any(each.endswith(told) for each in breaks(served, changed)), breaks(served, changed)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_added_breaks_nobody(served: Document, what: str) -> None:
    changed = copy.deepcopy(served)
    HARMLESS[what](changed)
    assert breaks(served, changed) == []


def test_the_command_writes_what_is_served(app: OpenAPI, served: Document, tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    result = app.test_cli_runner().invoke(args=["openapi", str(file)])
    assert (result.exit_code, result.output) == (0, "")
    assert orjson.loads(file.read_bytes()) == served
