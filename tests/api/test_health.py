"""What load balancers and operators are told."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from werkzeug.test import TestResponse

from tests.api.conftest import MakeApp
from tests.api.people import json_of
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey


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
    client: FlaskClient, valkey: Valkey, setting: str, value: int, kind: str
) -> None:
    with valkey.client() as raw:
        raw.config_set(setting, value)
    document = _document(client.get("/health"))
    assert document["status"] == "warn"
    assert document["checks"]["redis:limiter"][0]["detail"].startswith(f"{kind}: ")


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
