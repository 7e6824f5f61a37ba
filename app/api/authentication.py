"""Who is asking. The look-up runs before the limits, the refusal after them.

So a request is counted by its account where the token is good, by its address where it is not,
and a refused one is counted too.
"""

from __future__ import annotations

from flask import Flask, g, request

from app.api.context import container
from app.bootstrap import Container
from app.errors import TaskFlowError, Unauthenticated
from app.services.actor import Actor

# Endpoints that need no log-in. Everything else does, whoever wrote it.
PUBLIC = frozenset(
    {
        "accounts.register",
        "sessions.log_in",
        "health.live",
        "health.ready",
        "health.health",
        "health.metrics",
        "docs.openapi",
        "docs.page",
        "docs.problem_type",
        "swagger.static",
        "swagger.swagger",
        "swagger.oauth2-redirect",
    }
)


def install_lookup(app: Flask, _container: Container) -> None:
    """Set `g.actor`: an Actor, or None with the reason in `g.refusal`."""
    app.before_request(_look_up)


def install_enforcement(app: Flask, _container: Container) -> None:
    """Refuse what needs an account and has none."""
    app.before_request(_enforce)


def needs_actor(endpoint: str | None) -> bool:
    """Whether `endpoint` is refused without a log-in; an unknown address is the router's 404."""
    return endpoint is not None and endpoint not in PUBLIC


def _look_up() -> None:
    g.actor, g.refusal = None, None
    if not needs_actor(request.endpoint):
        return
    try:
        g.actor = _actor_of_token()
    except TaskFlowError as refusal:
        # A lost database too is only told after the limits have counted the request.
        g.refusal = refusal


def _actor_of_token() -> Actor:
    try:
        given = request.authorization
    except ValueError:  # werkzeug decodes Basic credentials, whatever bytes they are
        given = None
    if given is None:
        raise Unauthenticated("This needs a log-in: send Authorization: Bearer <token>.")
    if given.type != "bearer" or not given.token:
        raise Unauthenticated("The Authorization header must be: Bearer <token>.")
    return container().accounts.authenticate(given.token)


def _enforce() -> None:
    if g.refusal is not None:
        raise g.refusal
