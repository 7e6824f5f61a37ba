"""Rate limits over HTTP: what a request counts as, and what becomes of it without Redis."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from app.api import limits
from app.api.limits import BUDGETS, budget_of
from app.services.limit_rules import Budget
from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of
from tests.support.redis_servers import Valkey


def test_every_limit_of_the_request_is_in_the_headers(ann: Person) -> None:
    answer = ann.get("/projects")
    policy = '"reads-60s";q=600;w=60, "reads-3600s";q=20000;w=3600'
    assert answer.headers["RateLimit-Policy"] == policy
    standing = r'"reads-60s";r=599;t=60, "reads-3600s";r=19999;t=3600'
    assert re.fullmatch(standing, answer.headers["RateLimit"])
    assert answer.headers["X-RateLimit-Limit"] == "600"
    assert answer.headers["X-RateLimit-Remaining"] == "599"
    assert "Retry-After" not in answer.headers


@pytest.fixture
def tight(make_app: MakeApp, ready_url: str, valkey: Valkey) -> Person:
    """Someone with 3 writes a minute, 100 an hour, and 5 reads a minute."""
    app = make_app(
        DATABASE_URL=ready_url,
        REDIS_URL=valkey.url,
        RATE_LIMIT_WRITES="3/minute;100/hour",
        RATE_LIMIT_READS="5/minute",
    )
    return Person(app, "tess")


def test_the_fourth_write_is_refused_with_the_policy_it_violates(tight: Person) -> None:
    assert [tight.post("/projects", {"name": "A"}).status_code for _ in range(3)] == [201] * 3
    refused = tight.post("/projects", {"name": "A"})
    assert refused.status_code == 429
    assert refused.content_type == "application/problem+json"
    body = json_of(refused)
    assert body["type"] == "/problems/too-many-requests"
    assert body["errors"] == [{"field": "writes-60s", "message": "at most 3 in any 60 s"}]
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["X-RateLimit-Remaining"] == "0"


def test_a_refused_request_uses_up_none_of_the_other_limits(tight: Person) -> None:
    answers = [tight.post("/projects", {"name": "A"}) for _ in range(10)]
    assert [answer.status_code for answer in answers] == [201] * 3 + [429] * 7
    assert '"writes-3600s";r=97' in answers[-1].headers["RateLimit"]


def test_reads_and_writes_have_budgets_of_their_own(tight: Person) -> None:
    for _ in range(4):
        tight.post("/projects", {"name": "A"})
    assert tight.get("/projects").status_code == 200


def test_head_and_options_count_as_reads(tight: Person) -> None:
    answers = [tight.request(method, "/projects") for method in ("GET", "HEAD", "OPTIONS")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    told = [answer.headers["RateLimit"].split(";")[:2] for answer in answers]
    assert told == [['"reads-60s"', f"r={left}"] for left in (4, 3, 2)]


def test_a_request_refused_by_validation_counts(tight: Person) -> None:
    statuses = [tight.post("/projects", {"nome": 1}).status_code for _ in range(5)]
    assert statuses == [422, 422, 422, 429, 429]


def test_two_accounts_do_not_share_a_budget(tight: Person) -> None:
    for _ in range(4):
        tight.post("/projects", {"name": "A"})
    other = Person(tight._client.application, "olga")
    assert other.post("/projects", {"name": "B"}).status_code == 201


def test_log_ins_are_limited_by_address_before_the_password_is_looked_at(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_LOGIN="2/minute")
    client = app.test_client()
    who = {"email": "nobody@example.com", "password": PASSWORD}
    statuses = [client.post("/api/v1/sessions", json=who).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


def test_a_bad_token_is_counted_by_address(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_READS="2/minute")
    client = app.test_client()
    statuses = [
        client.get("/api/v1/projects", headers={"Authorization": f"Bearer {n}"}).status_code
        for n in range(3)
    ]
    assert statuses == [401, 401, 429]


def test_health_metrics_and_documents_are_not_limited(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_READS="1/minute")
    client = app.test_client()
    for path in ("/health/live", "/metrics", "/openapi.json"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3
        assert "RateLimit" not in client.get(path).headers


@pytest.fixture
def batches(
    make_app: MakeApp, ready_url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Person:
    """Someone with 10 items a minute at endpoints of the test's own."""
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_BATCH="10/minute")
    app.add_url_rule("/api/v1/batch", "batch", lambda: "ok", methods=["POST"])
    app.add_url_rule("/api/v1/export", "export", lambda: "ok")
    drawing = {"batch": Budget.BATCH, "export": Budget.BATCH}
    monkeypatch.setattr(limits, "BUDGETS", {**BUDGETS, **drawing})
    return Person(app, "beth")


def test_an_endpoint_that_reads_may_have_a_budget_of_its_own(batches: Person) -> None:
    told = [
        batches.request(method, "/export").headers["RateLimit-Policy"].split("-")[0]
        for method in ("GET", "HEAD", "OPTIONS")
    ]
    assert told == ['"batch', '"batch', '"reads']


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([{"items": [1] * 4}, {"items": [1] * 7}, {"items": [1] * 6}], ["6", "-", "0"]),
        ([{"items": []}, {"items": "many"}, {}, [1, 2], None], ["9", "8", "7", "6", "5"]),
        ([{"items": [1] * 11}, {"items": [1] * 10}], ["-", "0"]),
    ],
)
def test_a_batch_costs_its_items(
    batches: Person, bodies: list[object], expected: list[str]
) -> None:
    answers = [batches.post("/batch", body) for body in bodies]
    told = [
        "-" if answer.status_code == 429 else answer.headers["X-RateLimit-Remaining"]
        for answer in answers
    ]
    assert told == expected
    assert '"batch-60s";q=10;w=60' in answers[-1].headers["RateLimit-Policy"]


def test_a_batch_larger_than_the_limit_is_told_to_wait_for_a_window(batches: Person) -> None:
    refused = batches.post("/batch", {"items": [1] * 11})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")


@pytest.mark.parametrize(
    ("text", "shared"), [("1000/hour exact", False), pytest.param("1000/hour", True, id="control")]
)
def test_an_exact_limit_keeps_an_entry_for_each_hit(
    make_app: MakeApp, ready_url: str, valkey: Valkey, text: str, shared: bool
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_READS=text)
    person = Person(app, "ed")
    assert [person.get("/projects").status_code for _ in range(5)] == [200] * 5
    with valkey.client() as raw:
        (log,) = raw.keys("*:rate:reads/*")
        found = (raw.strlen(log) - 4) / 11
    assert (found == 5, found < 5) == (not shared, shared)


def test_without_redis_requests_pass_and_say_nothing_of_limits(
    tight: Person, valkey: Valkey
) -> None:
    valkey.stop()
    answers = [tight.post("/projects", {"name": "A"}) for _ in range(5)]
    valkey.restart()
    assert [answer.status_code for answer in answers] == [201] * 5
    assert "RateLimit" not in answers[-1].headers


def test_without_redis_log_ins_are_still_limited_by_each_process(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_LOGIN="2/minute")
    client = app.test_client()
    valkey.stop()
    who = {"email": "nobody@example.com", "password": PASSWORD}
    answers = [client.post("/api/v1/sessions", json=who) for _ in range(3)]
    valkey.restart()
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


def test_with_no_redis_configured_the_process_counts_for_itself(
    make_app: MakeApp, ready_url: str
) -> None:
    app = make_app(DATABASE_URL=ready_url, RATE_LIMIT_WRITES="2/minute")
    person = Person(app, "memo")
    statuses = [person.post("/projects", {"name": "A"}).status_code for _ in range(3)]
    assert statuses == [201, 201, 429]


def test_every_endpoint_named_in_the_table_exists(ann: Person) -> None:
    assert set(BUDGETS) <= set(ann._client.application.view_functions)
    assert budget_of("sessions.log_in", "POST") == "login"
    assert budget_of("tasks.create_task", "POST") == "writes"
    assert budget_of("tasks.list_tasks", "HEAD") == "reads"


def test_without_redis_nothing_that_counts_is_served_where_that_is_chosen(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    person = _on_loss(make_app, ready_url, valkey, "closed")
    valkey.stop()
    answers = [person.post("/projects", {"name": "A"}) for _ in range(3)]
    live = person.get("/health/live")
    log_ins = [_log_in(person._client) for _ in range(3)]
    valkey.restart()
    assert [answer.status_code for answer in answers] == [503] * 3
    assert answers[0].content_type == "application/problem+json"
    assert answers[0].headers["Retry-After"] == "2"
    assert json_of(answers[0])["type"] == "/problems/limits-unavailable"
    assert live.status_code == 200
    assert log_ins == [401, 401, 429]


def test_without_redis_each_process_grants_its_share_where_that_is_chosen(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    person = _on_loss(make_app, ready_url, valkey, "local")
    valkey.stop()
    answers = [person.post("/projects", {"name": "A"}) for _ in range(4)]
    valkey.restart()
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
    assert '"writes-60s";r=0' in answers[-1].headers["RateLimit"]


def _on_loss(make_app: MakeApp, url: str, valkey: Valkey, what: str) -> Person:
    app = make_app(
        DATABASE_URL=url,
        REDIS_URL=valkey.url,
        RATE_LIMIT_WRITES="2/minute",
        RATE_LIMIT_LOGIN_ACCOUNT="2/minute",
        RATELIMIT_ON_LOSS=what,
    )
    return Person(app, "lou")


def _log_in(client: FlaskClient) -> int:
    who = {"email": "nobody@example.com", "password": PASSWORD}
    return client.post("/api/v1/sessions", json=who).status_code
