"""Callers of the API: accounts that are logged in, each with a client of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import update
from werkzeug.test import TestResponse

from app.bootstrap import Container
from app.db.enums import MemberRole, Role
from app.db.models import Account
from app.services.actor import Actor
from tests.support.database import add_member

PASSWORD = "correct horse battery"


def json_of(answer: TestResponse) -> Any:
    """The answer's JSON, whatever its media type."""
    return answer.get_json(force=True)


class Person:
    """A registered account that is logged in; every request carries its token."""

    def __init__(self, app: Flask, name: str) -> None:
        self._client = app.test_client()
        self.email = f"{name}@example.com"
        who = {"email": self.email, "password": PASSWORD, "name": name.title()}
        registered = self._client.post("/api/v1/accounts", json=who)
        assert registered.status_code == 201, registered.text
        self.id = str(json_of(registered)["id"])
        self.token = self.log_in()

    def at(self, app: Flask) -> Person:
        """The same account, with the same token, at another process or on another thread."""
        there = Person.__new__(Person)
        there._client, there.email, there.id = app.test_client(), self.email, self.id
        there.token = self.token
        return there

    @property
    def container(self) -> Container:
        """The parts of the application that is used."""
        found: Container = self._client.application.extensions["taskflow"]
        return found

    def as_admin(self) -> Person:
        """The same, as an operator makes one."""
        root = Actor(UUID(int=0), None, Role.ADMIN)
        self.container.admin.set_role(root, UUID(self.id), Role.ADMIN)
        return self

    def log_in(self) -> str:
        """Open one more session; returns its token."""
        who = {"email": self.email, "password": PASSWORD}
        answer = self._client.post("/api/v1/sessions", json=who)
        assert answer.status_code == 201, answer.text
        return str(json_of(answer)["token"])

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> TestResponse:
        """Any request; `path` is below /api/v1 unless it begins elsewhere."""
        url = path if path.startswith(("/api/", "/health")) else f"/api/v1{path}"
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self._client.open(url, method=method, headers=sent, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.request("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> TestResponse:
        return self.request("POST", path, json=json, **more)

    def patch(self, path: str, json: Any, *, version: int) -> TestResponse:
        return self.request("PATCH", path, json=json, headers={"If-Match": f'"v{version}"'})

    def delete(self, path: str, *, version: int) -> TestResponse:
        return self.request("DELETE", path, headers={"If-Match": f'"v{version}"'})

    def project(self, name: str = "House") -> dict[str, Any]:
        """A new project."""
        return _made(self.post("/projects", {"name": name}))

    def verified(self) -> Person:
        """The same, after its address was."""
        mine = update(Account).where(Account.id == UUID(self.id))
        with self.container.db.write() as session:
            session.execute(mine.values(email_verified_at=datetime.now(UTC)))
        return self

    def joins(self, project: Mapping[str, Any], role: str = "editor") -> None:
        """Become a member of another's project."""
        member = Actor(UUID(self.id), None, "user")
        add_member(self.container.db, UUID(project["id"]), member, MemberRole(role))

    def task(
        self, project: Mapping[str, Any], title: str = "Rent", **fields: Any
    ) -> dict[str, Any]:
        """A new task in it."""
        return _made(self.post(f"/projects/{project['id']}/tasks", {"title": title, **fields}))


def _made(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = json_of(answer)
    return view
