"""What a request may read of the cache, asked in the same round trip as its limits.

Only requests that read something cached ask: those named in `READS`, and every one with a token
that this process remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from flask import Flask, g, request

from app.bootstrap import Container
from app.coordination.local_cache import Visit, begin_visit
from app.services.ports import account_namespace, project_namespace

ProjectOf = Callable[[Container, Mapping[str, Any]], UUID | None]


def _in_path(_container: Container, path: Mapping[str, Any]) -> UUID:
    return UUID(str(path["project_id"]))


def _of_task(container: Container, path: Mapping[str, Any]) -> UUID | None:
    return container.tasks.project_of(path["task_id"])


READS: Mapping[str, ProjectOf] = {
    "tasks.list_tasks": _in_path,
    "tasks.get_task": _of_task,
    "stats.project_stats": _in_path,
}
"""Endpoints that answer from the cache, and whose project's namespace they read."""


def install(app: Flask, container: Container) -> None:
    """Open a visit for each request; the limits' round trip carries its questions."""

    def begin() -> None:
        container.relay.begin()
        visit = _visit(container)
        g.visit = visit
        begin_visit(visit)

    app.before_request(begin)
    app.teardown_request(lambda _: begin_visit(None))


def install_judged(app: Flask, container: Container) -> None:
    """Where the cache is on a server of its own, the questions take a round trip of their own."""
    shared = container.shared

    def ask() -> None:
        if shared and g.visit:
            shared.ask(g.visit)

    if container.settings.cache_redis_url:
        app.before_request(ask)


def _visit(container: Container) -> Visit | None:
    if container.shared is None or not container.gate.is_open:
        return None
    if not g.get("actor"):
        return None  # who is not known is refused, and asks nothing of Redis but its limits
    reads = READS.get(request.endpoint or "")
    project_id = reads(container, request.view_args or {}) if reads else None
    projects = [project_namespace(project_id)] if project_id else []
    own = account_namespace(g.actor.account_id)
    return container.shared.local.visit(projects, begun=[own])
