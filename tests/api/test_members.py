"""Members: invited, accepted, given roles, removed, gone; and what they see from then on."""

from __future__ import annotations

from uuid import uuid4

import pytest
from flask_openapi import OpenAPI

from app.services import members
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.api.test_cached_reads import quiet
from tests.support.redis_servers import Valkey


@pytest.fixture
def pair(any_app: OpenAPI) -> tuple[Person, Person]:
    """Two accounts on each kind of database."""
    return Person(any_app, "ann"), Person(any_app, "bob").verified()


def invited(ann: Person, email: str, *, role: str = "editor") -> tuple[str, str]:
    """A new project of `ann`'s and its invitation, as paths."""
    project = f"/projects/{ann.project()['id']}"
    answer = ann.post(f"{project}/invitations", {"email": email, "role": role})
    assert answer.status_code == 201, answer.text
    return project, f"{project}/invitations/{json_of(answer)['id']}"


def test_an_invitation_that_is_accepted_makes_a_member_of_that_role(
    pair: tuple[Person, Person],
) -> None:
    ann, bob = pair
    project, invitation = invited(ann, " BOB@example.com", role="viewer")
    assert bob.get(project).status_code == 404
    [offer] = json_of(bob.get("/invitations"))["items"]
    assert (offer["project_name"], offer["role"]) == ("House", "viewer")
    joined = bob.post(f"/invitations/{offer['id']}/accept")
    assert (joined.status_code, json_of(joined)["role"]) == (200, "viewer")
    assert json_of(bob.get(project)) == json_of(joined)
    assert [each["role"] for each in json_of(bob.get("/projects"))["items"]] == ["viewer"]
    shown = json_of(ann.get(f"{project}/members"))["items"]
    assert [(each["email"], each["role"]) for each in shown] == [
        ("ann@example.com", "owner"),
        ("bob@example.com", "viewer"),
    ]
    for who, path in ((bob, "/invitations"), (ann, f"{project}/invitations")):
        assert json_of(who.get(path))["items"] == []
    assert ann.request("DELETE", invitation).status_code == 404


def test_inviting_tells_nothing_of_whether_an_address_has_an_account(
    pair: tuple[Person, Person],
) -> None:
    ann, bob = pair
    answers = []
    for email in (bob.email, "nobody@example.com"):
        project, _ = invited(ann, email)
        again = ann.post(f"{project}/invitations", {"email": email, "role": "editor"})
        views = [json_of(again), json_of(ann.get(f"{project}/invitations"))]
        shown = views[1]["items"][0]
        assert shown.pop("email") == email
        for view in (views[0], shown):
            view.pop("instance", None), view.pop("id", None), view.pop("created_at", None)
        answers.append((again.status_code, views))
    assert answers[0] == answers[1]
    assert answers[0][0] == 409


def test_who_registers_later_finds_the_invitation_once_the_address_is_shown_to_be_theirs(
    any_app: OpenAPI,
) -> None:
    ann = Person(any_app, "ann")
    project, invitation = invited(ann, "late@example.com")
    late = Person(any_app, "late")  # or somebody who only says so
    assert json_of(late.get("/invitations"))["items"] == []
    mine = f"/invitations/{invitation.rpartition('/')[2]}"
    assert late.post(f"{mine}/accept").status_code == 404
    assert late.request("DELETE", mine).status_code == 404
    late.verified()
    [offer] = json_of(late.get("/invitations"))["items"]
    assert late.post(f"/invitations/{offer['id']}/accept").status_code == 200
    assert late.get(project).status_code == 200


def test_an_invitation_is_answered_once(pair: tuple[Person, Person]) -> None:
    ann, bob = pair
    project, invitation = invited(ann, bob.email)
    offer = f"/invitations/{json_of(bob.get('/invitations'))['items'][0]['id']}"
    assert ann.request("DELETE", offer).status_code == 404
    assert bob.request("DELETE", offer).status_code == 204
    assert bob.post(f"{offer}/accept").status_code == 404
    assert ann.request("DELETE", invitation).status_code == 404
    assert bob.get(project).status_code == 404


def test_a_member_is_not_invited_again_and_nobody_is_made_the_owner(
    pair: tuple[Person, Person],
) -> None:
    ann, bob = pair
    project = ann.project()
    bob.joins(project)
    path = f"/projects/{project['id']}/invitations"
    assert ann.post(path, {"email": bob.email, "role": "viewer"}).status_code == 409
    for body, field in (
        ({"email": "x@example.com", "role": "owner"}, "role"),
        ({"email": "no address", "role": "viewer"}, "email"),
    ):
        answer = ann.post(path, body)
        assert answer.status_code == 422
        assert [each["field"] for each in json_of(answer)["errors"]] == [field]


def test_a_role_that_is_taken_holds_at_the_next_request(pair: tuple[Person, Person]) -> None:
    ann, bob = pair
    project = ann.project()
    bob.joins(project)
    bob.task(project)
    read = bob.get(f"/projects/{project['id']}")
    path = f"/projects/{project['id']}/members/{bob.id}"
    answer = ann.request("PATCH", path, json={"role": "viewer"})
    assert (answer.status_code, json_of(answer)["role"]) == (200, "viewer")
    assert bob.post(f"/projects/{project['id']}/tasks", {"title": "x"}).status_code == 403
    held = bob.get(f"/projects/{project['id']}", headers={"If-None-Match": read.headers["ETag"]})
    assert (held.status_code, json_of(held)["role"]) == (200, "viewer")


def test_a_transfer_makes_the_old_owner_an_editor(pair: tuple[Person, Person]) -> None:
    ann, bob = pair
    project = ann.project()
    path = f"/projects/{project['id']}"
    stranger = ann.post(f"{path}/transfer", {"member_id": bob.id})
    assert stranger.status_code == 422
    assert [each["field"] for each in json_of(stranger)["errors"]] == ["member_id"]
    bob.joins(project, "viewer")
    answer = ann.post(f"{path}/transfer", {"member_id": bob.id})
    assert (answer.status_code, json_of(answer)["role"]) == (200, "editor")
    assert (json_of(answer)["owner_id"], json_of(bob.get(path))["role"]) == (bob.id, "owner")
    assert ann.post(f"{path}/archive").status_code == 403
    assert ann.delete(path, version=2).status_code == 403
    assert bob.delete(path, version=2).status_code == 204


def test_the_owner_is_neither_removed_nor_given_a_role_and_cannot_leave(
    pair: tuple[Person, Person],
) -> None:
    ann, bob = pair
    project = ann.project()
    bob.joins(project)
    path = f"/projects/{project['id']}/members"
    assert ann.request("DELETE", f"{path}/{ann.id}").status_code == 409
    assert ann.request("PATCH", f"{path}/{ann.id}", json={"role": "viewer"}).status_code == 409
    assert bob.request("DELETE", f"{path}/{ann.id}").status_code == 403
    assert ann.request("DELETE", f"{path}/{uuid4()}").status_code == 404


@pytest.mark.parametrize("role", ["editor", "viewer"])
def test_everybody_else_may_leave_and_sees_nothing_more(
    pair: tuple[Person, Person], role: str
) -> None:
    ann, bob = pair
    project = ann.project()
    bob.joins(project, role)
    path = f"/projects/{project['id']}"
    assert bob.request("DELETE", f"{path}/members/{bob.id}").status_code == 204
    assert bob.get(path).status_code == 404
    assert json_of(bob.get("/projects"))["items"] == []
    assert len(json_of(ann.get(f"{path}/members"))["items"]) == 1


def test_lists_of_projects_tell_own_from_shared_and_archived_from_open(
    pair: tuple[Person, Person],
) -> None:
    ann, bob = pair
    own, shared, archived = ann.project("own"), bob.project("shared"), ann.project("archived")
    bob.project("not shared")
    ann.joins(shared)
    ann.post(f"/projects/{archived['id']}/archive")

    def names(query: str) -> list[str]:
        return [each["name"] for each in json_of(ann.get(f"/projects{query}"))["items"]]

    assert names("") == ["own", "shared", "archived"]
    assert names("?shared=true") == ["shared"]
    assert names("?shared=false") == ["own", "archived"]
    assert names("?archived=true") == ["archived"]
    assert names("?archived=false&shared=false") == [own["name"]]


# --- what is cached, in two processes -------------------------------------------------------------


@pytest.fixture
def two(make_app: MakeApp, ready_url: str, valkey: Valkey) -> tuple[Person, Person]:
    """Bob at one process, who has read all of a project and is remembered; ann at another."""
    apps = [make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url) for _ in range(2)]
    for app in apps:
        quiet(app)
    return Person(apps[0], "ann"), Person(apps[1], "bob")


def reads(bob: Person, paths: list[str]) -> list[int]:
    return [bob.get(path).status_code for path in paths]


def removed(ann: Person, bob: Person) -> tuple[list[int], list[int]]:
    """The statuses of bob's reads, which are cached by then, before and after his removal."""
    project = ann.project()
    bob.joins(project)
    task = ann.task(project)
    path = f"/projects/{project['id']}"
    paths = [f"{path}/tasks", f"{path}/stats", f"/tasks/{task['id']}", path]
    before = [reads(bob, paths) for _ in range(3)][-1]
    assert ann.request("DELETE", f"{path}/members/{bob.id}").status_code == 204
    return before, reads(bob, paths)


def test_a_removed_member_gets_404_at_the_next_request_in_another_process(
    two: tuple[Person, Person],
) -> None:
    assert removed(*two) == ([200] * 4, [404] * 4)


def test_if_the_caches_were_not_told_the_removed_would_read_on(
    two: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(members, "stale_member", lambda *_, **__: None)
    assert removed(*two) == ([200] * 4, [200, 200, 200, 404])


def test_the_others_keep_what_is_cached_for_them(two: tuple[Person, Person]) -> None:
    ann, bob = two
    project = ann.project()
    bob.joins(project)
    path = f"/projects/{project['id']}"
    for _ in range(3):
        ann.get(f"{path}/tasks")
    hits = ann.container.metrics.cache.labels("hit_l1")._value
    before = hits.get()
    assert ann.request("DELETE", f"{path}/members/{bob.id}").status_code == 204
    assert ann.get(f"{path}/tasks").status_code == 200
    assert hits.get() == before + 1
