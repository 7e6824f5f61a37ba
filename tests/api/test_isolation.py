"""Nobody sees or touches what is another's, by any operation that the document names."""

from __future__ import annotations

from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.operations import calls, owned, shown
from tests.api.people import Person, json_of


def test_every_operation_with_an_id_answers_404_for_another_account(
    client: FlaskClient, ann: Person, bob: Person
) -> None:
    ids = owned(ann)
    with_id = [call for call in calls(client) if call.has_id]
    assert len(with_id) >= 29
    for call in with_id:
        answer = bob.request(call.method, call.at(ids), **call.sent(ids))
        assert (call.id, answer.status_code) == (call.id, 404)


def test_the_owner_is_answered_by_every_one_of_these_operations(
    client: FlaskClient, ann: Person
) -> None:
    ann.as_admin()
    for call in calls(client):
        if call.has_id:
            # Each call meets things of its own: one of them deletes what it meets.
            ids = owned(ann)
            answer = ann.request(call.method, call.at(ids), **call.sent(ids))
            assert answer.status_code in (200, 201, 204), (call.id, answer.text)


def test_another_accounts_id_and_an_id_of_nothing_get_the_same_answer(
    client: FlaskClient, ann: Person, bob: Person
) -> None:
    ids = owned(ann)
    for call in calls(client):
        if call.has_id:
            nothing = call.nowhere()
            anothers = json_of(bob.request(call.method, call.at(ids), **call.sent(ids)))
            unknown = bob.request(call.method, call.at(nothing), **call.arguments)
            assert unknown.status_code == 404
            expected = {**anothers, "instance": call.at(nothing)}
            assert json_of(unknown) == expected, call.id


def test_a_refused_stranger_changes_nothing(client: FlaskClient, ann: Person, bob: Person) -> None:
    ids = owned(ann)
    before = shown(ann, ids)
    for call in calls(client):
        if call.has_id:
            bob.request(call.method, call.at(ids), **call.sent(ids))
    assert shown(ann, ids) == before


def test_every_operation_but_the_public_ones_answers_401_without_a_token(
    client: FlaskClient,
) -> None:
    public = {call.id for call in calls(client) if call.public}
    assert public == {
        "register",
        "log_in",
        "refresh_session",
        "request_password_reset",
        "reset_password",
        "verify_address",
    }
    for call in calls(client):
        if not call.public:
            path = call.at(call.nowhere())
            answer = client.open(path, method=call.method, **call.arguments)
            assert (call.id, answer.status_code) == (call.id, 401)


def test_every_route_that_needs_no_log_in_is_known(app: OpenAPI) -> None:
    """Routes that the document does not list are asked too."""
    silent = set()
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and not rule.rule.startswith("/api/"):
            silent.add(rule.rule)
    assert silent == {
        "/docs",
        "/docs/oauth2-redirect.html",
        "/docs/swagger",
        "/docs/swagger/<path:filename>",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/problems/<slug>",
    }


def test_lists_and_figures_hold_only_ones_own(ann: Person, bob: Person) -> None:
    mine, theirs = ann.project("Mine"), bob.project("Theirs")
    ann.task(mine)
    bob.task(theirs)
    assert [each["id"] for each in json_of(ann.get("/projects"))["items"]] == [mine["id"]]
    assert [each["id"] for each in json_of(bob.get("/projects"))["items"]] == [theirs["id"]]
    assert json_of(ann.get(f"/projects/{mine['id']}/stats"))["total"] == 1


def test_what_an_owner_has_just_listed_is_not_served_to_a_stranger(
    ann: Person, bob: Person
) -> None:
    """The list is cached by then, for its owner."""
    project = ann.project()
    ann.task(project)
    path = f"/projects/{project['id']}"
    for part in ("/tasks", "/stats"):
        assert ann.get(path + part).status_code == 200
        assert bob.get(path + part).status_code == 404
        assert ann.get(path + part).status_code == 200
