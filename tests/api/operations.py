"""The operations of the OpenAPI document as requests that can be sent.

Tests go through them, so that a new endpoint is tested from the day it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flask.testing import FlaskClient

from app.api.openapi import operations
from tests.api.people import PASSWORD, Person, json_of
from tests.support.database import add_account


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the document, with an example of its body."""

    id: str
    method: str
    path: str
    arguments: Mapping[str, Any]
    public: bool
    takes_key: bool

    @property
    def for_admins(self) -> bool:
        return self.path.startswith("/api/v1/admin/")

    @property
    def has_id(self) -> bool:
        return "{" in self.path

    def at(self, ids: Mapping[str, str]) -> str:
        """The path for these ids; a KeyError names an id that `owned` has still to make."""
        return self.path.format(**ids)


def calls(client: FlaskClient) -> Iterator[Call]:
    """Every operation below /api, ready to be sent."""
    document = json_of(client.get("/openapi.json"))
    for path, method, operation in operations(document):
        if path.startswith("/api/"):
            public = operation.get("security") == []
            arguments = _arguments(document, operation)
            takes_key = "Idempotency-Key" in _parameters(operation)
            yield Call(operation["operationId"], method, path, arguments, public, takes_key)


def owned(person: Person) -> dict[str, str]:
    """What each id in a path may stand for: one thing of each kind, all `person`'s."""
    project = person.project()
    other = add_account(person.container.db, f"other-{uuid4().hex}")
    person.container.accounts.log_in(email=person.email, password=PASSWORD)
    token = {"name": "backup", "scopes": ["read"]}
    newest = json_of(person.get("/sessions?limit=1"))["items"][0]
    return {
        "project_id": project["id"],
        "task_id": person.task(project)["id"],
        "session_id": newest["id"],
        "token_id": json_of(person.post("/access-tokens", token))["id"],
        "account_id": str(other.account_id),
    }


def _arguments(document: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if "If-Match" in _parameters(operation):
        arguments["headers"] = {"If-Match": '"v1"'}
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        arguments["json"] = schema["examples"][0]
    return arguments


def _parameters(operation: Mapping[str, Any]) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", ())}
