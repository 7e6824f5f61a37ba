"""What is told of the limits: to the client in headers and the 429, to operators in metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from app.coordination import deny_memo
from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of
from tests.support.redis_servers import Valkey

MakePerson = Callable[..., Person]
NOBODYS = "0190b8a0-0000-7000-8000-000000000000"


@pytest.fixture
def person(make_app: MakeApp, ready_url: str, valkey: Valkey) -> MakePerson:
    """Someone under limits given as variables."""

    def make(**env: str) -> Person:
        return Person(make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, **env), "tess")

    return make


@pytest.fixture
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denials are remembered for longer than a slow machine takes for the next request."""
    monkeypatch.setattr(deny_memo, "MOST_S", 60.0)


def write(who: Person, times: int) -> list[Any]:
    return [who.post("/projects", {"name": "A"}) for _ in range(times)]


def decisions(who: Person, endpoint: str) -> dict[str, dict[str, float]]:
    """By policy and outcome: how often at this endpoint."""
    found: dict[str, dict[str, float]] = {}
    for sample in _samples(who, "taskflow_rate_limit_decisions_total"):
        if sample.labels["endpoint"] == endpoint:
            of_policy = found.setdefault(sample.labels["policy"], {})
            of_policy[sample.labels["outcome"]] = sample.value
    return found


WRITE = "projects.create_project"


def decided_here(who: Person) -> dict[tuple[str, str], float]:
    """By endpoint and by what."""
    return {
        (sample.labels["endpoint"], sample.labels["by"]): sample.value
        for sample in _samples(who, "taskflow_rate_limit_decided_here_total")
    }


def _samples(who: Person, name: str) -> list[Any]:
    metrics = who._client.application.extensions["taskflow"].metrics
    return [
        sample
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]


@pytest.mark.usefixtures("long_memory")
def test_every_policy_that_was_violated_is_in_the_refusal(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="2/minute;9/hour;2/day")
    answers = write(tess, 4)
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    for refused in answers[2:]:  # the server's word, and its word remembered
        assert json_of(refused)["errors"] == [
            {"field": "writes-60s", "message": "at most 2 in any 60 s"},
            {"field": "writes-86400s", "message": "at most 2 in any 86400 s"},
        ]
        policies = '"writes-60s";q=2;w=60, "writes-3600s";q=9;w=3600, "writes-86400s";q=2;w=86400'
        assert refused.headers["RateLimit-Policy"] == policies
        fields = [each.split(";")[:2] for each in refused.headers["RateLimit"].split(", ")]
        assert fields == [
            ['"writes-60s"', "r=0"],
            ['"writes-3600s"', "r=7"],
            ['"writes-86400s"', "r=0"],
        ]
        assert 86_390 < int(refused.headers["Retry-After"]) <= 86_400


def test_the_headers_name_the_tightest_limit(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="5/minute;3/hour")
    answers = write(tess, 4)
    shown = [
        (answer.headers["X-RateLimit-Limit"], answer.headers["X-RateLimit-Remaining"])
        for answer in answers
    ]
    assert shown == [("3", "2"), ("3", "1"), ("3", "0"), ("3", "0")]
    left_s = int(answers[-1].headers["X-RateLimit-Reset"]) - time.time()
    assert 3_580 < left_s <= 3_602


@pytest.mark.parametrize("remembered", [False, True])
def test_who_waits_as_long_as_he_is_told_is_admitted(person: MakePerson, remembered: bool) -> None:
    tess = person(RATE_LIMIT_READS="3/second")
    refused = _until_refused(tess, remembered=remembered)
    time.sleep(int(refused.headers["Retry-After"]))
    assert tess.get("/projects").status_code == 200


def _until_refused(tess: Person, *, remembered: bool) -> Any:
    for _ in range(100):
        answer = tess.get("/projects")
        if answer.status_code == 429 and bool(decided_here(tess)) is remembered:
            return answer
    raise AssertionError("nothing was refused")


def test_only_refusals_that_pass_by_themselves_say_when_to_come_again(
    person: MakePerson, valkey: Valkey
) -> None:
    tess = person(RATE_LIMIT_WRITES="6/minute", RATELIMIT_ON_LOSS="closed")
    made = tess.project()
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/projects", {}),
        ("GET", "/nowhere", {}),
        ("PUT", "/projects", {}),
        ("GET", f"/projects/{NOBODYS}", {}),
        ("GET", "/projects", {"headers": {"Authorization": "Bearer no"}}),
        ("POST", "/projects", {"json": {"name": 1}}),
        ("POST", "/projects", {"data": "{"}),
        ("POST", "/projects", {"json": {"name": "x" * 2_000_000}}),
        ("DELETE", f"/projects/{made['id']}", {"headers": {"If-Match": '"v9"'}}),
        ("DELETE", f"/projects/{made['id']}", {}),
        ("POST", "/projects", {"json": {"name": "A"}}),
    ]
    answers = [tess.request(method, path, **more) for method, path, more in asked]
    valkey.stop()
    answers.append(tess.get("/projects"))
    valkey.restart()
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 404, 405, 404, 401, 422, 415, 413, 412, 428, 429, 503]
    come_again = [answer.status_code for answer in answers if "Retry-After" in answer.headers]
    assert come_again == [429, 503]


def test_a_shadow_limit_refuses_nobody_and_is_told_to_operators_alone(
    person: MakePerson,
) -> None:
    tess = person(RATE_LIMIT_WRITES="3/minute shadow;6/hour")
    answers = write(tess, 8)
    assert [answer.status_code for answer in answers] == [201] * 6 + [429] * 2
    for answer in answers:
        assert answer.headers["RateLimit-Policy"] == '"writes-3600s";q=6;w=3600'
        assert answer.headers["X-RateLimit-Limit"] == "6"
    assert json_of(answers[-1])["errors"] == [
        {"field": "writes-3600s", "message": "at most 6 in any 3600 s"}
    ]
    assert decisions(tess, "projects.create_project") == {
        "writes-60s": {"allowed": 2, "near": 1, "shadow_denied": 5},
        "writes-3600s": {"allowed": 5, "near": 1, "denied": 2},
    }


def test_limits_of_one_window_have_names_of_their_own(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="9/minute;4/minute;3/1 minute shadow;9/60 second")
    answers = write(tess, 5)
    assert [answer.status_code for answer in answers] == [201] * 4 + [429]
    refused = answers[-1]
    assert refused.headers["RateLimit-Policy"] == (
        '"writes-60s";q=9;w=60, "writes-60s-2";q=4;w=60, "writes-60s-4";q=9;w=60'
    )
    fields = [each.split(";")[:2] for each in refused.headers["RateLimit"].split(", ")]
    assert fields == [['"writes-60s"', "r=5"], ['"writes-60s-2"', "r=0"], ['"writes-60s-4"', "r=5"]]
    assert json_of(refused)["errors"] == [
        {"field": "writes-60s-2", "message": "at most 4 in any 60 s"}
    ]
    assert decisions(tess, "projects.create_project") == {
        "writes-60s": {"allowed": 5},
        "writes-60s-2": {"allowed": 3, "near": 1, "denied": 1},
        "writes-60s-3": {"allowed": 2, "near": 1, "shadow_denied": 2},
        "writes-60s-4": {"allowed": 5},
    }


@pytest.mark.usefixtures("long_memory")
def test_a_remembered_denial_names_the_same_policies(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="9/minute;2/minute")
    answers = write(tess, 4)
    here = {by: times for (endpoint, by), times in decided_here(tess).items() if endpoint == WRITE}
    assert here == {"memo": 1}
    for refused in answers[2:]:
        (error,) = json_of(refused)["errors"]
        assert error["field"] == "writes-60s-2"
        assert '"writes-60s-2";r=0' in refused.headers["RateLimit"]


def test_a_shadow_limit_alone_says_nothing_at_all(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="1/minute exact shadow")
    answers = write(tess, 3)
    assert [answer.status_code for answer in answers] == [201] * 3
    assert not [name for name, _ in answers[-1].headers if "RateLimit" in name]
    assert decisions(tess, "projects.create_project") == {
        "writes-60s": {"near": 1, "shadow_denied": 2}
    }


@pytest.mark.usefixtures("long_memory")
def test_what_becomes_of_requests_is_counted_by_endpoint_and_policy(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_WRITES="10/minute;100/hour")
    write(tess, 13)
    tess.get("/projects")
    assert decisions(tess, "projects.create_project") == {
        "writes-60s": {"allowed": 8, "near": 2, "denied": 3},
        "writes-3600s": {"allowed": 13},
    }
    assert decisions(tess, "projects.list_projects") == {
        "reads-60s": {"allowed": 1},
        "reads-3600s": {"allowed": 1},
    }
    assert decided_here(tess) == {("projects.create_project", "memo"): 2}


def test_without_redis_requests_are_counted_as_uncounted_or_as_this_process_decided(
    person: MakePerson, valkey: Valkey
) -> None:
    tess = person(RATE_LIMIT_WRITES="9/minute", RATE_LIMIT_LOGIN="4/minute")
    valkey.stop()
    write(tess, 5)
    who = {"email": "nobody@example.com", "password": PASSWORD}
    answers = [tess._client.post("/api/v1/sessions", json=who) for _ in range(6)]
    valkey.restart()
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 2
    assert decisions(tess, "projects.create_project") == {"writes-60s": {"uncounted": 5}}
    assert decided_here(tess) == {("sessions.log_in", "process"): 6}


@pytest.mark.usefixtures("long_memory")
def test_what_a_remembered_denial_left_unasked_is_no_lost_count(person: MakePerson) -> None:
    tess = person(RATE_LIMIT_LOGIN="3/minute", RATE_LIMIT_LOGIN_ACCOUNT="9/minute")
    who = {
        "email": "nobody@example.com",
        "password": PASSWORD,
    }
    answers = [tess._client.post("/api/v1/sessions", json=who) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 429, 429, 429]
    told = decisions(tess, "sessions.log_in")
    assert told["login-60s"] == {"allowed": 1, "near": 1, "denied": 3}
    assert set(told["login-account-60s"]) == {"allowed"}
    assert decided_here(tess) == {("sessions.log_in", "memo"): 2}
