"""The operations of the OpenAPI document as requests that can be sent.

Tests go through them, so that a new endpoint is tested from the day it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any
from uuid import UUID, uuid4

from flask.testing import FlaskClient

from app.api.openapi import operations
from app.db.enums import MemberRole
from app.services.actor import Actor
from tests.api.people import PASSWORD, Person, json_of
from tests.support.database import add_account, add_member, add_project


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

    def nowhere(self) -> dict[str, str]:
        """Ids of nothing, for its path and its body."""
        return {
            name: str(uuid4()) for name in (*_names(self.path), *self.arguments.get("json", {}))
        }

    def sent(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """The arguments, with these ids in the body where it names some."""
        arguments = dict(self.arguments)
        if "json" in arguments:
            body = arguments["json"]
            arguments["json"] = {name: ids.get(name, value) for name, value in body.items()}
        return arguments


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
    project, parts = person.verified().project(), person.container
    project_id, me = UUID(project["id"]), Actor(UUID(person.id), None, "user")
    fellow = add_account(parts.db, f"fellow-{uuid4().hex}")
    add_member(parts.db, project_id, fellow, MemberRole.EDITOR)
    others = add_project(parts.db, fellow)
    parts.accounts.log_in(email=person.email, password=PASSWORD)
    newest = json_of(person.get("/sessions?limit=1"))["items"][0]
    token = parts.access_tokens.create(me, name="backup", scopes=["read"], days=1)
    sent = parts.invitations.invite(me, project_id, email="bea@example.org", role="viewer")
    received = parts.invitations.invite(fellow, others, email=person.email, role="viewer")
    return {
        "project_id": project["id"],
        "member_id": str(fellow.account_id),
        "sent_invitation_id": sent["id"],
        "invitation_id": received["id"],
        "account_id": str(fellow.account_id),
        "session_id": newest["id"],
        "token_id": token["id"],
        "task_id": person.task(project)["id"],
    }


def shown(person: Person, ids: Mapping[str, str]) -> list[Any]:
    """All that `person` can read of what `owned` made."""
    project, task = f"/projects/{ids['project_id']}", f"/tasks/{ids['task_id']}"
    paths = [project, task, f"{task}/history", "/invitations"]
    paths += [f"{project}/{part}" for part in ("tasks", "members", "invitations", "stats")]
    return [json_of(person.get(path)) for path in paths]


def _names(path: str) -> list[str]:
    return [name for _, name, *_ in Formatter().parse(path) if name]


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
