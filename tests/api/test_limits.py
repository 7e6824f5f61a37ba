"""Rate limits over HTTP: what counts, what the headers and the 429 say, and Flask-Limiter's own."""

from __future__ import annotations

import re

import pytest
from flask import Flask, Response, jsonify
from flask_limiter import Limiter
from flask_openapi import OpenAPI

from app.api.limiter import OneCallLimiter
from app.api.limits import BUDGETS, budget_of
from app.api.schemas.accounts import Registration
from app.coordination.absent import NoRedis
from app.coordination.rate_limit import MemoryRates, RedisRates
from app.coordination.scripts import ScriptRegistry
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


def test_all_limits_of_a_request_cost_one_round_trip(ann: Person, valkey: Valkey) -> None:
    ann.get("/projects")
    with valkey.client() as raw:
        raw.config_resetstat()
        ann.get("/projects")
        calls = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls == 1


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


def test_the_private_hook_of_flask_limiter_is_still_there() -> None:
    assert callable(getattr(Limiter, "_Limiter__evaluate_limits"))  # noqa: B009  a mangled name


@pytest.fixture
def plain() -> Flask:
    """An application of Flask-Limiter's own kind: decorators, defaults, exemptions."""
    app = Flask("plain")
    limiter = OneCallLimiter(MemoryRates(), key_func=lambda: "someone", default_limits=["5/minute"])

    @app.get("/default")
    def default() -> str:
        return "ok"

    @app.get("/decorated")
    @limiter.limit("2/minute;10/hour")
    def decorated() -> str:
        return "ok"

    @app.get("/costly")
    @limiter.limit("5/minute", cost=lambda: 3)
    def costly() -> str:
        return "ok"

    @app.get("/shared-a")
    @limiter.shared_limit("3/minute", scope="both")
    def shared_a() -> str:
        return "ok"

    @app.get("/shared-b")
    @limiter.shared_limit("3/minute", scope="both")
    def shared_b() -> str:
        return "ok"

    @app.get("/exempt")
    @limiter.exempt
    def exempt() -> str:
        return "ok"

    @app.get("/current")
    def current() -> Response:
        window = limiter.current_limit
        assert window is not None
        return jsonify(remaining=window.remaining)

    limiter.init_app(app)
    return app


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/default", [200] * 5 + [429]),
        ("/decorated", [200] * 2 + [429] * 4),
        ("/costly", [200] + [429] * 5),
        ("/exempt", [200] * 6),
    ],
)
def test_flask_limiters_own_decorators_and_defaults_work(
    plain: Flask, path: str, expected: list[int]
) -> None:
    client = plain.test_client()
    assert [client.get(path).status_code for _ in range(6)] == expected


def test_a_decorator_below_the_validation_would_have_counted_none_of_them() -> None:
    """The control of `test_a_request_refused_by_validation_counts`."""
    app = OpenAPI("decorated")
    limiter = OneCallLimiter(MemoryRates(), key_func=lambda: "someone")

    @app.post("/things")
    @limiter.limit("3/minute")
    def make(body: Registration) -> str:
        return body.name

    limiter.init_app(app)
    client = app.test_client()
    assert [client.post("/things", json={}).status_code for _ in range(8)] == [422] * 8


def test_a_shared_limit_is_shared_by_its_routes(plain: Flask) -> None:
    client = plain.test_client()
    paths = ["/shared-a", "/shared-b"] * 2
    assert [client.get(path).status_code for path in paths] == [200, 200, 200, 429]


def test_flask_limiter_is_told_what_the_one_call_decided(plain: Flask) -> None:
    client = plain.test_client()
    assert [client.get("/current").get_json()["remaining"] for _ in range(3)] == [4, 3, 2]


def test_a_decorated_route_passes_while_redis_is_away() -> None:
    app = Flask("away")
    rates = RedisRates(NoRedis("limiter"), ScriptRegistry.from_folder())
    limiter = OneCallLimiter(rates, key_func=lambda: "someone")

    @app.get("/")
    @limiter.limit("1/minute")
    def route() -> str:
        return "ok"

    limiter.init_app(app)
    client = app.test_client()
    assert [client.get("/").status_code for _ in range(3)] == [200] * 3
