"""Optimistic locking: ETag out, If-Match and If-None-Match in."""

from __future__ import annotations

import pytest

from tests.api.people import Person, json_of


@pytest.fixture
def path(ann: Person) -> str:
    """A task at version 1."""
    return f"/tasks/{ann.task(ann.project())['id']}"


def test_a_new_thing_says_where_it_is_and_which_version(ann: Person) -> None:
    answer = ann.post("/projects", {"name": "House"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/projects/{json_of(answer)['id']}"
    assert answer.headers["ETag"] == '"v1"'
    read = ann.get(answer.headers["Location"])
    assert json_of(read) == json_of(answer)
    assert read.headers["ETag"] == '"v1"'


def test_a_version_already_held_is_a_304_without_a_body(ann: Person, path: str) -> None:
    for held in ('"v1"', '"v0", "v1"', 'W/"v1"', "*"):
        answer = ann.get(path, headers={"If-None-Match": held})
        assert (held, answer.status_code) == (held, 304)
        assert answer.data == b""
        assert answer.headers["ETag"] == '"v1"'


def test_an_older_version_held_gets_the_new_one(ann: Person, path: str) -> None:
    assert ann.patch(path, {"title": "Rent and power"}, version=1).status_code == 200
    answer = ann.get(path, headers={"If-None-Match": '"v1"'})
    assert answer.status_code == 200
    assert json_of(answer)["title"] == "Rent and power"
    assert answer.headers["ETag"] == '"v2"'


def test_a_change_based_on_the_current_version_makes_the_next(ann: Person, path: str) -> None:
    answer = ann.patch(path, {"status": "in_progress"}, version=1)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"v2"'
    assert (json_of(answer)["version"], json_of(answer)["status"]) == (2, "in_progress")


def test_of_two_changes_based_on_the_same_version_one_is_refused(ann: Person, path: str) -> None:
    first = ann.patch(path, {"title": "First"}, version=1)
    second = ann.patch(path, {"title": "Second"}, version=1)
    assert (first.status_code, second.status_code) == (200, 412)
    assert json_of(ann.get(path))["title"] == "First"


def test_a_stale_delete_is_refused_and_a_current_one_is_not(ann: Person, path: str) -> None:
    ann.patch(path, {"title": "Changed"}, version=1)
    assert ann.delete(path, version=1).status_code == 412
    gone = ann.delete(path, version=2)
    assert gone.status_code == 204
    assert gone.data == b""
    assert "Content-Type" not in gone.headers
    assert ann.get(path).status_code == 404


@pytest.mark.parametrize("tag", ['W/"v1"', '"v01x"', "v1", '"1"', '"v-1"', '"v99999999999"'])
def test_a_tag_that_we_never_made_matches_nothing(ann: Person, path: str, tag: str) -> None:
    answer = ann.request("PATCH", path, json={"title": "x"}, headers={"If-Match": tag})
    assert answer.status_code == 412


@pytest.mark.parametrize("tag", ["", "*", '"v1", "v2"'])
def test_what_would_match_any_version_is_a_428(ann: Person, path: str, tag: str) -> None:
    """Such a change would overwrite what its sender never saw."""
    answer = ann.request("PATCH", path, json={"title": "x"}, headers={"If-Match": tag})
    assert answer.status_code == 428
    assert json_of(ann.get(path))["version"] == 1


def test_the_list_of_projects_has_no_etag_and_is_not_kept(ann: Person) -> None:
    ann.project()
    answer = ann.get("/projects")
    assert "ETag" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("what", ["tasks", "stats"])
def test_lists_and_figures_are_told_by_their_content(ann: Person, what: str) -> None:
    project = ann.project()
    path = f"/projects/{project['id']}/{what}"
    tag = ann.get(path).headers["ETag"]
    held = ann.request("GET", path, headers={"If-None-Match": tag})
    assert (held.status_code, held.data) == (304, b"")
    ann.task(project)
    newer = ann.request("GET", path, headers={"If-None-Match": tag})
    assert newer.status_code == 200
    assert newer.headers["ETag"] != tag


def test_what_has_an_etag_may_be_kept_by_its_reader_only(ann: Person, path: str) -> None:
    assert ann.get(path).headers["Cache-Control"] == "private, no-cache"


def test_the_date_is_left_to_the_server_which_would_say_it_twice(ann: Person) -> None:
    project = ann.project()
    for path in (f"/api/v1/projects/{project['id']}", f"/api/v1/projects/{project['id']}/tasks"):
        answer = ann.get(path)
        held = ann.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert [a.status_code for a in (answer, held)] == [200, 304]
        assert [a.headers.getlist("Date") for a in (answer, held)] == [[], []]


def test_a_read_on_a_condition_that_does_not_hold_is_a_412(ann: Person) -> None:
    path = f"/api/v1/projects/{ann.project()['id']}"
    assert ann.get(path, headers={"If-Match": '"v99"'}).status_code == 412
