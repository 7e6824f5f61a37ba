"""HTTP metrics: by route template, with labels of bounded sets."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from tests.api.people import Person
from tests.support.waiting import eventually

NAMES = {
    "taskflow_http_requests_total",
    "taskflow_http_request_seconds_count",
    "taskflow_http_in_flight",
}


def _samples(client: FlaskClient) -> Iterator[tuple[str, dict[str, str], float]]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.mimetype == "text/plain"
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _requests(client: FlaskClient) -> dict[tuple[str, str, str], float]:
    return {
        (labels["method"], labels["route"], labels["status"]): value
        for name, labels, value in _samples(client)
        if name == "taskflow_http_requests_total"
    }


def test_the_names_that_dashboards_use_are_there(client: FlaskClient) -> None:
    client.get("/health/live")
    names = {name for name, *_ in _samples(client)}
    assert names >= NAMES
    assert all(name.startswith("taskflow_") for name in names)


def test_requests_are_counted_by_template_never_by_path(client: FlaskClient, ann: Person) -> None:
    project = ann.project()
    for _ in range(3):
        ann.get(f"/projects/{project['id']}")
    found = _requests(client)
    assert found["GET", "/api/v1/projects/<uuid:project_id>", "200"] == 3
    assert not any(project["id"] in route for _, route, _ in found)


def test_unknown_addresses_and_methods_share_one_label(client: FlaskClient) -> None:
    for number in range(5):
        client.get(f"/nothing/{number}")
        client.open("/nothing", method=f"VERB{number}")
    found = _requests(client)
    assert found["GET", "none", "404"] == 5
    assert found["other", "none", "404"] == 5


def test_refused_requests_are_counted_with_their_status(client: FlaskClient) -> None:
    client.get("/api/v1/projects")
    client.post("/api/v1/sessions", data="x")
    found = _requests(client)
    assert found["GET", "/api/v1/projects", "401"] == 1
    assert found["POST", "/api/v1/sessions", "415"] == 1


def test_only_the_request_that_reads_it_is_in_flight(client: FlaskClient) -> None:
    for _ in range(3):
        client.get("/nothing")
    in_flight = [value for name, _, value in _samples(client) if name == "taskflow_http_in_flight"]
    assert in_flight == [1.0]


def test_of_the_cache_its_events_its_bytes_and_the_look_at_the_outbox(
    client: FlaskClient, app: OpenAPI, ann: Person
) -> None:
    container = app.extensions["taskflow"]
    eventually(lambda: container.gate.is_open, what="the first look")
    path = f"/projects/{ann.project()['id']}/tasks"
    began = time.time()
    sent = [ann.get(path).data for _ in range(3)]
    found = {(name, labels.get("event")): value for name, labels, value in _samples(client)}
    assert found["taskflow_cache_events_total", "miss"] == 1
    assert found["taskflow_cache_events_total", "stored"] == 1
    assert found["taskflow_cache_events_total", "hit_l2"] == 1  # whose namespace is new to it
    assert found["taskflow_cache_events_total", "hit_l1"] == 1
    assert found["taskflow_cache_invalidations_pending", None] == 0
    assert found["taskflow_cache_l1_bytes", None] == container.shared.local.bytes > len(sent[0])
    checked = found["taskflow_cache_outbox_checked_timestamp_seconds", None]
    assert abs(checked - began) < 60
