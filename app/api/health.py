"""For load balancers and operators: alive, ready, and the figures.

`/health/live` touches nothing. The two others answer 503 only where requests would fail: with
the database lost. Without Redis the service is slower, not broken: 200 and `warn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import orjson
from flask import Response
from flask_openapi import APIBlueprint, Tag

from app import __version__
from app.api.context import container
from app.api.openapi import named_after_handler
from app.errors import DatabaseUnavailable

CONTENT_TYPE = "application/health+json"
ONE_PROCESS = (
    "No Redis is configured: limits, locks and cache are this process's own. Run only one."
)

_DOCUMENTED: dict[Any, Any] = {
    200: {"description": "It serves: `pass`, or `warn` with something lost that it can spare."},
    503: {"description": "It cannot serve: `fail`."},
}

blueprint = APIBlueprint(
    "health",
    __name__,
    abp_tags=[Tag(name="health", description="For load balancers and operators.")],
    operation_id_callback=named_after_handler,
)


@blueprint.get("/health/live", responses={200: {"description": "The process answers."}})
def live() -> Response:
    """Say that the process answers, and ask nothing else."""
    return _health({"status": "pass"})


@blueprint.get("/health/ready", responses=_DOCUMENTED)
def ready() -> Response:
    """Say whether requests may be sent here."""
    return _health({"status": _status(_checks())})


@blueprint.get("/health", responses=_DOCUMENTED)
def health() -> Response:
    """Show the state of everything that this instance stands on."""
    checks = _checks()
    has_redis = container().settings.has_redis
    document: dict[str, Any] = {
        "status": _status(checks),
        "releaseId": __version__,
        "serviceId": "taskflow",
        "instance": container().identity,
        "mode": "redis" if has_redis else "memory",
        "checks": {check["name"]: [check] for check in checks},
    }
    if not has_redis:
        document["notes"] = [ONE_PROCESS]
    return _health(document)


@blueprint.get("/metrics", doc_ui=False)
def metrics() -> Response:
    """All figures, in Prometheus' text format."""
    body, content_type = container().metrics.render()
    return Response(body, content_type=content_type)


def _checks() -> list[Mapping[str, Any]]:
    parts = container()
    return [_database(), *parts.health_of_redis(), *parts.health_of_outbox()]


def _database() -> Mapping[str, Any]:
    started = perf_counter()
    try:
        container().db.ping()
    except DatabaseUnavailable:
        return {"name": "database", "status": "fail", "detail": "not available"}
    took_ms = round((perf_counter() - started) * 1_000, 3)
    return {"name": "database", "status": "pass", "observedValue": took_ms, "observedUnit": "ms"}


def _status(checks: Sequence[Mapping[str, Any]]) -> str:
    """`fail` with the database lost, `warn` with anything else lost."""
    if checks[0]["status"] == "fail":
        return "fail"
    return "pass" if all(check["status"] == "pass" for check in checks) else "warn"


def _health(document: dict[str, Any]) -> Response:
    status = 503 if document["status"] == "fail" else 200
    return Response(orjson.dumps(document) + b"\n", status, content_type=CONTENT_TYPE)
