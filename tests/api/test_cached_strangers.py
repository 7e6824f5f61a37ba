"""Who asks for projects that he may not see, or that nobody has, leaves nothing in the cache."""

from __future__ import annotations

from uuid import uuid4

import pytest
from flask_openapi import OpenAPI

from app.bootstrap import Container
from app.services.ports import project_namespace
from tests.api.people import Person, json_of
from tests.api.test_cached_reads import quiet
from tests.support.redis_servers import Valkey


def cached_keys(valkey: Valkey) -> set[str]:
    """Every key but the limits'."""
    with valkey.client() as raw:
        return {key for key in raw.scan_iter() if ":rate:" not in key}


def paths() -> list[str]:
    return [f"/projects/{uuid4()}/{what}" for what in ("tasks", "stats") for _ in range(10)]


def generations(container: Container) -> int:
    assert container.shared is not None
    return len(container.shared.local._generations)


def test_without_a_log_in_nothing_is_left(app: OpenAPI, valkey: Valkey) -> None:
    container, before = quiet(app), cached_keys(valkey)
    client = app.test_client()
    assert {client.get(f"/api/v1{path}").status_code for path in paths()} == {401}
    assert (cached_keys(valkey) - before, generations(container)) == (set(), 0)


def test_with_one_only_what_is_the_accounts_own_is_left(
    app: OpenAPI, ann: Person, valkey: Valkey
) -> None:
    container, before = quiet(app), cached_keys(valkey)
    assert {ann.get(path).status_code for path in paths()} == {404}
    own = f"tf:1:{{account:{json_of(ann.get('/accounts/me'))['id']}}}"
    assert cached_keys(valkey) - before == {f"{own}:meta", f"{own}:tags"}
    assert generations(container) == 1


def test_a_project_of_somebody_else_is_cached_for_him_as_before(
    app: OpenAPI, ann: Person, bob: Person
) -> None:
    container, path = quiet(app), f"/projects/{bob.project()['id']}/tasks"
    for _ in range(3):
        assert (bob.get(path).status_code, ann.get(path).status_code) == (200, 404)
    assert container.metrics.cache.labels("hit_l1")._value.get() == 1


def test_what_a_stranger_asked_for_would_stay_if_the_miss_were_not_taken_back(
    app: OpenAPI, ann: Person, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: nothing frees what a miss began, and looks begin every namespace."""
    container, project = quiet(app), uuid4()
    assert container.shared is not None
    visit = container.shared.local.visit
    monkeypatch.setattr(
        container.shared.local, "visit", lambda others, begun: visit([], begun=[*begun, *others])
    )
    assert ann.get(f"/projects/{project}/tasks").status_code == 404
    assert f"tf:1:{{{project_namespace(project)}}}:meta" in cached_keys(valkey)
    assert generations(container) == 2
