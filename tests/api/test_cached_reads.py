"""What an answer out of the cache costs, and what it may never show."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from flask_openapi import OpenAPI
from sqlalchemy import delete

from app.bootstrap import Container
from app.db.models import Task
from app.services import tokens
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


def parts(app: OpenAPI) -> Container:
    found: Container = app.extensions["taskflow"]
    return found


def quiet(app: OpenAPI) -> Container:
    """The parts, with nothing asked in the background any more, and the gate open for good."""
    container = parts(app)
    container.relay.begin()
    eventually(lambda: container.gate.is_open, what="the first look at the outbox")
    container.relay.close()
    container.fleet.leave()
    container.gate._clock = lambda: container.gate._looked_at or 0.0
    return container


def round_trips(container: Container) -> float:
    value = container.metrics.registry.get_sample_value
    purposes = ("limiter", "cache", "lock")
    name = "taskflow_redis_call_seconds_count"
    return sum(value(name, {"purpose": purpose}) or 0.0 for purpose in purposes)


def cost(container: Container, person: Person, path: str) -> tuple[float, int]:
    """Round trips of one more request, and its status."""
    before = round_trips(container)
    status = person.get(path).status_code
    return round_trips(container) - before, status


@pytest.fixture
def path(ann: Person) -> str:
    project = ann.project()
    ann.task(project)
    return f"/projects/{project['id']}/tasks"


def test_a_limited_authenticated_cached_read_costs_one_round_trip(
    app: OpenAPI, ann: Person, path: str
) -> None:
    container = quiet(app)
    # Whose token, what the namespace knows, and the body: each once from elsewhere.
    assert [cost(container, ann, path)[0] for _ in range(4)] == [3, 1, 1, 1]
    assert container.metrics.cache.labels("hit_l1")._value.get() == 3


@pytest.mark.parametrize("what", ["tasks", "stats"])
def test_every_kind_of_cached_read_comes_down_to_one_round_trip(
    app: OpenAPI, ann: Person, what: str
) -> None:
    container = quiet(app)
    path = f"/projects/{ann.project()['id']}/{what}"
    for _ in range(2):
        ann.get(path)
    assert cost(container, ann, path) == (1, 200)


def test_a_single_task_comes_down_to_one_round_trip_too(app: OpenAPI, ann: Person) -> None:
    container = quiet(app)
    path = f"/tasks/{ann.task(ann.project())['id']}"
    for _ in range(3):
        ann.get(path)
    assert cost(container, ann, path) == (1, 200)


def test_an_answer_that_its_reader_holds_is_304_out_of_the_cache(
    app: OpenAPI, ann: Person, path: str
) -> None:
    container = quiet(app)
    for _ in range(2):
        tag = ann.get(path).headers["ETag"]
    before = round_trips(container)
    held = ann.request("GET", path, headers={"If-None-Match": tag})
    assert (held.status_code, round_trips(container) - before) == (304, 1)


def test_a_cache_on_a_server_of_its_own_costs_one_more(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(
        DATABASE_URL=ready_url, REDIS_URL=valkey.url, CACHE_REDIS_URL=valkey.url.replace("/0", "/1")
    )
    container, ann = quiet(app), Person(app, "ann")
    path = f"/projects/{ann.project()['id']}/tasks"
    for _ in range(2):
        ann.get(path)
    assert cost(container, ann, path) == (2, 200)


# --- two processes --------------------------------------------------------------------------------


@pytest.fixture
def two(make_app: MakeApp, ready_url: str, valkey: Valkey) -> tuple[Person, Person]:
    """The same person at two processes, each of which remembers whose the token is."""
    apps = [make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url) for _ in range(2)]
    here = Person(apps[0], "ann")
    there = here.at(apps[1])
    for app, person in zip(apps, (here, there), strict=True):
        quiet(app)
        for _ in range(2):
            assert person.get("/accounts/me").status_code == 200
    return here, there


def test_what_one_process_wrote_the_other_shows_at_its_next_request(
    two: tuple[Person, Person],
) -> None:
    here, there = two
    project = here.project()
    path = f"/projects/{project['id']}/tasks"
    for number in range(5):
        assert [len(json_of(each.get(path))["items"]) for each in (here, there, there)] == [
            number
        ] * 3
        here.task(project)


def test_a_deletion_whose_answer_was_lost_is_over_for_all_once_it_is_told_not_to_be_there(
    app: OpenAPI, ann: Person
) -> None:
    container = quiet(app)
    project = ann.project()
    task, path = ann.task(project), f"/projects/{project['id']}/tasks"
    for _ in range(2):
        assert ann.get(f"/tasks/{task['id']}").status_code == 200
        ann.get(path)
    with container.db.write() as session:  # as by a process that dies after its commit
        session.execute(delete(Task).where(Task.id == UUID(task["id"])))
    assert len(json_of(ann.get(path))["items"]) == 1  # within the stated bound
    assert ann.delete(f"/tasks/{task['id']}", version=1).status_code == 404
    assert ann.get(f"/tasks/{task['id']}").status_code == 404
    assert json_of(ann.get(path))["items"] == []


def test_a_token_revoked_by_one_process_is_refused_by_the_other_at_once(
    two: tuple[Person, Person],
) -> None:
    here, there = two
    assert here.request("DELETE", "/sessions/current").status_code == 204
    assert there.get("/accounts/me").status_code == 401


def test_without_a_look_at_what_moved_it_would_have_been_accepted(
    two: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: the remembered token is not confirmed."""
    monkeypatch.setattr(tokens.Tokens, "confirm", lambda _self, _token, actor, **_: actor)
    here, there = two
    assert here.request("DELETE", "/sessions/current").status_code == 204
    assert there.get("/accounts/me").status_code == 200


def test_without_redis_no_token_is_remembered(two: tuple[Person, Person], valkey: Valkey) -> None:
    here, there = two
    valkey.kill()
    assert here.request("DELETE", "/sessions/current").status_code == 204
    assert there.get("/accounts/me").status_code == 401
    valkey.restart()


def test_a_gate_that_is_shut_reads_nothing_shared(app: OpenAPI, ann: Person, path: str) -> None:
    container = quiet(app)
    for _ in range(2):
        ann.get(path)
    container.gate._clock = lambda: time.monotonic() + 3_600
    ann.get(path)
    assert container.metrics.cache.labels("gated_database")._value.get() == 1
