"""What load balancers and operators are told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from werkzeug.test import TestResponse

from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.majority import Majority
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def five_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Majority]:
    with Majority.start(tmp_path_factory.mktemp("locks"), 5) as servers:
        yield servers


@pytest.fixture
def five_lock_servers(five_running: Majority) -> Iterator[Majority]:
    five_running.reset()
    yield five_running
    for server in five_running.servers:
        server.thaw()


@pytest.fixture
def with_lock_servers(
    make_app: MakeApp, ready_url: str, valkey: Valkey, five_lock_servers: Majority
) -> FlaskClient:
    """Someone without a log-in, where five servers keep the locks."""
    urls = ",".join(five_lock_servers.urls)
    env = {"LOCK_REDIS_URLS": urls, "LOCK_TIMEOUT_MS": "1000"}
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, **env).test_client()


def _document(answer: TestResponse) -> dict[str, Any]:
    assert answer.content_type == "application/health+json"
    found: dict[str, Any] = json_of(answer)
    return found


def test_with_everything_there_it_passes(any_app: OpenAPI) -> None:
    client = any_app.test_client()
    answer = client.get("/health")
    assert answer.status_code == 200
    document = _document(answer)
    assert document["status"] == "pass"
    assert document["serviceId"] == "taskflow"
    assert document["mode"] == "redis"
    assert document["releaseId"]
    assert len(document["checks"]) >= 2
    assert {check[0]["status"] for check in document["checks"].values()} == {"pass"}
    ready = client.get("/health/ready")
    assert (ready.status_code, _document(ready)["status"]) == (200, "pass")


def test_without_redis_it_warns_and_stays_ready(client: FlaskClient, valkey: Valkey) -> None:
    valkey.kill()
    for path in ("/health", "/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, _document(answer)["status"]) == (200, "warn")
    checks = _document(client.get("/health"))["checks"]
    assert checks["database"][0]["status"] == "pass"
    assert any(check[0]["status"] != "pass" for check in checks.values())


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [("maxmemory", 1, "oom"), ("min-replicas-to-write", 1, "noreplicas")],
)
def test_a_redis_that_refuses_to_write_is_told_from_one_that_serves(
    make_app: MakeApp, ready_url: str, valkey: Valkey, setting: str, value: int, kind: str
) -> None:
    patient = {"LIMITER_TIMEOUT_MS": "5000", "CACHE_TIMEOUT_MS": "5000"}  # on a busy machine
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, **patient)
    client = app.test_client()
    with valkey.client() as raw:
        raw.config_set(setting, value)
    document = _document(client.get("/health"))
    assert document["status"] == "warn"
    assert document["checks"]["redis:limiter"][0]["detail"].startswith(f"{kind}: ")


def test_where_one_redis_keeps_the_locks_there_is_no_check_of_a_majority(
    client: FlaskClient,
) -> None:
    checks = _document(client.get("/health"))["checks"]
    assert set(checks) == {"database", "redis:limiter", "redis:cache", "redis:lock", "cache:outbox"}


NO_MAJORITY = ": no majority, so that no lock can be taken"


@pytest.mark.parametrize(
    ("lost", "detail"),
    [
        (0, "5 of 5 servers answer"),
        (1, "4 of 5 servers answer"),
        (2, "3 of 5 servers answer"),
        (3, "2 of 5 servers answer" + NO_MAJORITY),
        (5, "0 of 5 servers answer" + NO_MAJORITY),
    ],
)
def test_of_the_servers_that_keep_the_locks_it_says_how_many_answer(
    five_lock_servers: Majority, with_lock_servers: FlaskClient, lost: int, detail: str
) -> None:
    for server in five_lock_servers.servers[:lost]:
        server.kill()
    status = "warn" if lost else "pass"
    answer = with_lock_servers.get("/health")
    document = _document(answer)
    assert (answer.status_code, document["status"]) == (200, status)
    locks = {"name": "redis:locks", "status": status, "detail": detail}
    assert document["checks"].pop("redis:locks") == [locks]
    assert {check[0]["status"] for check in document["checks"].values()} == {"pass"}
    ready = with_lock_servers.get("/health/ready")
    assert (ready.status_code, _document(ready)["status"]) == (200, status)


def test_half_of_the_lock_servers_is_no_majority(
    make_app: MakeApp, ready_url: str, valkey: Valkey, five_lock_servers: Majority
) -> None:
    urls = ",".join(five_lock_servers.urls[:4])
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, LOCK_REDIS_URLS=urls)
    for server in five_lock_servers.servers[:2]:
        server.kill()
    (check,) = _document(app.test_client().get("/health"))["checks"]["redis:locks"]
    assert (check["status"], check["detail"]) == ("warn", "2 of 4 servers answer" + NO_MAJORITY)


def test_a_lock_server_that_hangs_or_refuses_to_write_does_not_answer(
    five_lock_servers: Majority, with_lock_servers: FlaskClient
) -> None:
    hung, full, *_ = five_lock_servers.servers
    five_lock_servers.raw(full).config_set("maxmemory", 1)
    hung.freeze()
    (check,) = _document(with_lock_servers.get("/health"))["checks"]["redis:locks"]
    assert (check["status"], check["detail"]) == ("warn", "3 of 5 servers answer")


def test_the_redis_of_the_rest_is_not_counted_among_the_lock_servers(
    valkey: Valkey, with_lock_servers: FlaskClient
) -> None:
    valkey.kill()
    document = _document(with_lock_servers.get("/health"))
    assert document["status"] == "warn"
    found = {name: check[0]["status"] for name, check in document["checks"].items()}
    assert (found["redis:lock"], found["redis:locks"]) == ("warn", "pass")


def test_looking_at_the_lock_servers_leaves_nothing_there(
    five_lock_servers: Majority, with_lock_servers: FlaskClient
) -> None:
    with_lock_servers.get("/health")

    def keys() -> int:
        servers = five_lock_servers.servers
        return sum(int(five_lock_servers.raw(server).dbsize()) for server in servers)

    eventually(lambda: keys() == 0, what="the probes to expire")


def test_without_the_database_it_fails_and_is_not_ready_but_alive(
    make_app: MakeApp, valkey: Valkey
) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    client = make_app(DATABASE_URL=url, REDIS_URL=valkey.url).test_client()
    for path in ("/health", "/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, _document(answer)["status"]) == (503, "fail")
        assert "nobody" not in answer.text
    assert client.get("/health/live").status_code == 200


def test_with_no_redis_configured_it_says_that_one_process_is_all(
    make_app: MakeApp, ready_url: str
) -> None:
    document = _document(make_app(DATABASE_URL=ready_url).test_client().get("/health"))
    assert document["status"] == "pass"
    assert document["mode"] == "memory"
    assert document["notes"] == [
        "No Redis is configured: limits, locks and cache are this process's own. Run only one."
    ]


def test_being_alive_touches_nothing(make_app: MakeApp) -> None:
    """Not even for a token, which would be looked up in the database."""
    nowhere = free_port()
    app = make_app(
        DATABASE_URL=f"postgresql://nobody@127.0.0.1:{nowhere}/nothing",
        REDIS_URL=f"redis://127.0.0.1:{nowhere}",
    )
    headers = {"Authorization": "Bearer anything"}
    answer = app.test_client().get("/health/live", headers=headers)
    assert (answer.status_code, _document(answer)) == (200, {"status": "pass"})


def test_probes_are_not_limited(make_app: MakeApp, ready_url: str) -> None:
    app = make_app(DATABASE_URL=ready_url, RATE_LIMIT_READS="1/hour")
    client = app.test_client()
    for path in ("/health/live", "/health/ready", "/health", "/metrics"):
        assert [client.get(path).status_code for _ in range(3)] == [200] * 3


def test_it_says_of_the_outbox_when_it_was_looked_at(client: FlaskClient, app: OpenAPI) -> None:
    client.get("/health/live")
    eventually(lambda: app.extensions["taskflow"].gate.is_open, what="the first look")
    (check,) = _document(client.get("/health"))["checks"]["cache:outbox"]
    assert check["status"] == "pass"
    assert re.fullmatch(r"looked at \d\.\d s ago, invalidations pending: 0", check["detail"])


def test_changes_that_redis_has_not_heard_of_are_a_warning(
    client: FlaskClient, app: OpenAPI, ann: Person, valkey: Valkey
) -> None:
    container = app.extensions["taskflow"]
    eventually(lambda: container.gate.is_open, what="the first look")
    project = ann.project()
    valkey.kill()
    for _ in range(2):
        ann.task(project)

    def outbox() -> dict[str, str]:
        (check,) = _document(client.get("/health"))["checks"]["cache:outbox"]
        return dict(check)

    detail = "not looked at, invalidations pending: 2; this process answers from the database"
    eventually(lambda: outbox()["detail"] == detail, what="the warning")
    assert outbox()["status"] == "warn"
    assert client.get("/health/ready").status_code == 200
    figure = container.metrics.registry.get_sample_value
    assert figure("taskflow_cache_invalidations_pending") == 2
    valkey.restart()
    eventually(lambda: outbox()["status"] == "pass", what="the outbox to be told")
    assert figure("taskflow_cache_invalidations_pending") == 0


def test_with_nothing_shared_there_is_no_outbox(make_app: MakeApp, ready_url: str) -> None:
    checks = _document(make_app(DATABASE_URL=ready_url).test_client().get("/health"))["checks"]
    assert set(checks) == {"database"}
