"""HTTP and nothing else: parse, one service call, serialise.

The hooks run in the order of `HOOKS` before a handler, and in the opposite order after it.
A new blueprint is one more entry in `BLUEPRINTS`.
"""

from __future__ import annotations

from flask_openapi import Info, OpenAPI

from app import __version__
from app.api import (
    access_tokens,
    accounts,
    admin,
    authentication,
    bodies,
    compression,
    cors,
    docs,
    headers,
    health,
    http_metrics,
    idempotency,
    invitations,
    limits,
    members,
    openapi,
    problems,
    projects,
    request_ids,
    sessions,
    stats,
    tasks,
    visits,
)
from app.api.context import EXTENSION
from app.api.json_provider import OrjsonProvider
from app.api.requests import ApiRequest
from app.api.schemas.problems import Problem
from app.bootstrap import Container

HOOKS = (
    request_ids.install,
    compression.install,
    headers.install,
    cors.install,
    http_metrics.install,
    authentication.install_lookup,
    visits.install,
    limits.install_limits,
    visits.install_judged,
    authentication.install_enforcement,
    bodies.install,
    idempotency.install,
)

BLUEPRINTS = (
    accounts.blueprint,
    sessions.blueprint,
    access_tokens.blueprint,
    admin.blueprint,
    projects.blueprint,
    members.blueprint,
    invitations.blueprint,
    tasks.blueprint,
    stats.blueprint,
    health.blueprint,
)


def new_app() -> OpenAPI:
    """An application without routes, hooks or parts."""
    app = OpenAPI(
        "app",
        info=Info(title="TaskFlow", version=__version__, description=openapi.DESCRIPTION),
        security_schemes=openapi.SECURITY_SCHEMES,
        validation_error_model=Problem,
        validation_error_callback=problems.refuse_invalid,
        doc_ui=False,
        static_folder=None,
    )
    app.openapi_version = openapi.VERSION
    app.json = OrjsonProvider(app)
    app.request_class = ApiRequest
    return app


def install(app: OpenAPI, container: Container) -> None:
    """Give `app` its parts, hooks, error answers, routes and document."""
    app.extensions[EXTENSION] = container
    app.config["MAX_CONTENT_LENGTH"] = container.settings.max_body_bytes
    problems.install(app)
    for hook in HOOKS:
        hook(app, container)
    for blueprint in BLUEPRINTS:
        app.register_api(blueprint)
    docs.install(app)
