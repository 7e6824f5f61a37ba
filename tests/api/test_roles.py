"""What each role may do, by every operation on a project or a task that the document names."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.conftest import MakeApp
from tests.api.operations import Call, calls, owned, shown
from tests.api.people import Person, json_of
from tests.support.redis_servers import Valkey

READS = {"get_project", "list_members", "list_tasks", "get_task", "task_history", "project_stats"}
WRITES = {"create_task", "patch_task", "complete_task", "reopen_task", "delete_task"}
MANAGES = {
    "patch_project",
    "delete_project",
    "archive_project",
    "unarchive_project",
    "transfer_project",
    "change_role",
    "remove_member",
    "invite",
    "list_sent_invitations",
    "withdraw_invitation",
}
MAY = {"owner": READS | WRITES | MANAGES, "editor": READS | WRITES, "viewer": READS}
# What an archived project refuses to everybody; its members, and its end, are still the owner's.
FROZEN = WRITES | {"patch_project"}


def of_projects(client: FlaskClient) -> list[Call]:
    parts = ("{project_id}", "{task_id}")
    return [call for call in calls(client) if any(part in call.path for part in parts)]


def test_every_operation_on_a_project_or_a_task_has_a_role_that_it_needs(
    client: FlaskClient,
) -> None:
    known = [*READS, *WRITES, *MANAGES]
    assert sorted(call.id for call in of_projects(client)) == sorted(known)


@pytest.fixture
def roomy(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    """Nobody meets a limit: each operation is asked of things of its own."""
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_WRITES="9999/minute")


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_a_member_may_do_what_its_role_says_and_a_refusal_changes_nothing(
    roomy: OpenAPI, role: str
) -> None:
    ann, member = Person(roomy, "ann"), Person(roomy, role)
    outcomes = {}
    for call in of_projects(roomy.test_client()):
        ids = owned(ann)
        member.joins({"id": ids["project_id"]}, role)
        before = shown(ann, ids)
        answer = member.request(call.method, call.at(ids), **call.sent(ids))
        outcomes[call.id] = answer.status_code
        if answer.status_code == 403:
            assert json_of(answer)["type"] == "/problems/not-allowed"
            assert shown(ann, ids) == before, call.id
    allowed = {name for name, status in outcomes.items() if status in (200, 201, 204)}
    assert allowed == MAY[role]
    assert {outcomes[name] for name in MAY["owner"] - allowed} == {403}


def test_an_archived_project_is_read_only_until_it_is_taken_back(roomy: OpenAPI) -> None:
    ann = Person(roomy, "ann")
    outcomes = {}
    for call in of_projects(roomy.test_client()):
        ids = owned(ann)
        archived = json_of(ann.post(f"/projects/{ids['project_id']}/archive"))
        assert archived["archived_at"] is not None
        arguments = call.sent(ids)
        if call.id == "delete_project":  # the one that needs the project's version
            arguments["headers"] = {"If-Match": f'"v{archived["version"]}"'}
        before = shown(ann, ids)
        outcomes[call.id] = ann.request(call.method, call.at(ids), **arguments).status_code
        if outcomes[call.id] == 409:
            assert shown(ann, ids) == before, call.id
    assert {name for name, status in outcomes.items() if status == 409} == FROZEN
    assert {outcomes[name] for name in MAY["owner"] - FROZEN} <= {200, 201, 204}


def test_archiving_twice_is_archiving_once_and_what_is_taken_back_can_be_changed(
    ann: Person,
) -> None:
    project = ann.project()
    path = f"/projects/{project['id']}"
    first, second = (json_of(ann.post(f"{path}/archive")) for _ in range(2))
    assert first == second
    assert first["version"] == 2
    assert [ann.post(f"{path}/unarchive").status_code for _ in range(2)] == [200, 200]
    back = json_of(ann.get(path))
    assert (back["archived_at"], back["version"]) == (None, 3)
    ann.task(project)


def test_a_viewer_with_a_stale_version_is_told_of_the_role_and_not_of_the_version(
    ann: Person, bob: Person
) -> None:
    project = ann.project()
    bob.joins(project, "viewer")
    task = ann.task(project)
    assert bob.patch(f"/tasks/{task['id']}", {"title": "x"}, version=99).status_code == 403
    assert bob.patch(f"/projects/{project['id']}", {"name": "x"}, version=99).status_code == 403
