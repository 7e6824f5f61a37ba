"""All that is kept of an account, and its end."""

from __future__ import annotations

import pytest
from flask_openapi import OpenAPI

from app.db.models import Account, MailedToken, Project, RefreshToken, Task
from app.services import export, own_account
from app.services.ports import stale_account
from tests.api.people import PASSWORD, Person, json_of
from tests.support.database import column, rows_in


def delete(person: Person, password: str = PASSWORD) -> int:
    return person.post("/accounts/me/deletion", {"password": password}).status_code


def test_an_export_is_all_of_ones_own_in_pages_and_nothing_of_anybody_elses(
    any_app: OpenAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_AT_ONCE", 2)
    ann, bob = Person(any_app, "ann"), Person(any_app, "bob")
    projects = [ann.project(name) for name in ("House", "Garden", "Garage")]
    tasks = [ann.task(project, f"Task {n}", labels=["x"]) for project in projects for n in range(3)]
    bob.task(bob.project("Theirs"))
    made = json_of(ann.post("/access-tokens", {"name": "b", "scopes": ["read"]}))
    answer = ann.get("/accounts/me/export")
    found = json_of(answer)
    assert found["account"] == json_of(ann.get("/accounts/me"))
    assert (found["projects"], found["tasks"]) == (projects, tasks)
    assert [each["id"] for each in found["access_tokens"]] == [made["id"]]
    assert [each["current"] for each in found["sessions"]] == [True]
    assert not any(secret in answer.text for secret in (ann.token, made["token"], "argon2"))
    assert set(json_of(bob.get("/accounts/me/export"))["tasks"][0]) == set(tasks[0])


def test_a_deleted_account_is_gone_with_all_of_its_own_and_nobody_elses(any_app: OpenAPI) -> None:
    ann, bob = Person(any_app, "ann"), Person(any_app, "bob")
    ann.task(ann.project())
    bob.task(bob.project())
    assert delete(ann, "not the password") == 422
    assert ann.get("/accounts/me").status_code == 200
    assert delete(ann) == 204
    assert ann.get("/accounts/me").status_code == 401
    who = {"email": ann.email, "password": PASSWORD}
    assert any_app.test_client().post("/api/v1/sessions", json=who).status_code == 401
    db = bob.container.db
    assert column(db, Account.email) == [bob.email]
    bob.container.post.close()
    tables = (Project, Task, RefreshToken, MailedToken)
    assert [rows_in(db, table) for table in tables] == [1, 1, 1, 1]


def seen(person: Person, task_id: str) -> object:
    """The assignee of a task, once its body is in the cache."""
    for _ in range(3):
        found = json_of(person.get(f"/tasks/{task_id}"))["assignee_id"]
    return found


@pytest.fixture
def assigned(app: OpenAPI, ann: Person, bob: Person) -> str:
    """Bob's task, which is cached with Ann as its assignee."""
    project = bob.project()
    ann.joins(project)
    task_id = str(bob.task(project, assignee_id=ann.id)["id"])
    assert app.extensions["taskflow"].shared
    assert seen(bob, task_id) == ann.id
    return task_id


def test_no_cache_shows_a_deleted_account_any_more(ann: Person, bob: Person, assigned: str) -> None:
    assert delete(ann) == 204
    assert seen(bob, assigned) is None
    assert json_of(bob.get(f"/tasks/{assigned}"))["version"] == 2  # whoever holds its ETag is told


def test_if_its_projects_were_not_told_one_would(
    ann: Person, bob: Person, assigned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(
        own_account, "stale_with_projects", lambda account_id, _: stale_account(account_id)
    )
    assert delete(ann) == 204
    assert seen(bob, assigned) == ann.id
