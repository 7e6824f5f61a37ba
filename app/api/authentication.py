"""Who is asking. The look-up runs before the limits, the refusal after them.

So a request is counted by its account where the token is good, by its address where it is not,
and a refused one is counted too. Whose a token is may be remembered: what the look-up finds is
confirmed once the limits' round trip has told what changed, before anything is done for it. (The
first request of a process with a token just revoked is counted by its account.)
"""

from __future__ import annotations

from flask import Flask, g, request

from app.api.context import container
from app.bootstrap import Container
from app.db.enums import Scope
from app.errors import Forbidden, TaskFlowError, Unauthenticated
from app.services.actor import Actor

# Endpoints that need no log-in. Everything else does, whoever wrote it.
PUBLIC = frozenset(
    {
        "accounts.register",
        "accounts.request_password_reset",
        "accounts.reset_password",
        "accounts.verify_address",
        "sessions.refresh_session",
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

# Who holds a personal access token must not become the account's owner with it.
LOG_IN_ONLY = frozenset({"accounts", "sessions", "access_tokens", "admin"})
"""Blueprints that take no personal access token, but for `BY_ANY_TOKEN`."""
BY_ANY_TOKEN = frozenset({"accounts.me"})

# Endpoints whose answer holds a secret: it is never kept, and never compressed.
RETURNS_SECRET = frozenset(
    {"sessions.log_in", "sessions.refresh_session", "access_tokens.create_access_token"}
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
    g.actor, g.refusal, g.token, g.looked_up = None, None, "", False
    if not needs_actor(request.endpoint):
        return
    try:
        g.token = _token()
        g.actor = _actor(g.token)
    except TaskFlowError as refusal:
        # A lost database too is only told after the limits have counted the request.
        g.refusal = refusal


def _actor(token: str) -> Actor:
    """Whose the token was when this process last looked, or is by the database."""
    tokens = container().tokens
    remembered = tokens.remembered(token)
    if remembered is not None:
        return remembered
    g.looked_up = True
    return tokens.identify(token)


def _token() -> str:
    try:
        given = request.authorization
    except ValueError:  # werkzeug decodes Basic credentials, whatever bytes they are
        given = None
    if given is None:
        raise Unauthenticated("This needs a log-in: send Authorization: Bearer <token>.")
    if given.type != "bearer" or not given.token:
        raise Unauthenticated("The Authorization header must be: Bearer <token>.")
    return given.token


def _enforce() -> None:
    if g.refusal is not None:
        raise g.refusal
    if g.actor is not None:
        tokens = container().tokens
        g.actor = tokens.confirm(g.token, g.actor, visit=g.visit, looked_up=g.looked_up)
        _check_scopes(g.actor)


def _check_scopes(actor: Actor) -> None:
    if actor.scopes is None:
        return
    if request.blueprint in LOG_IN_ONLY and request.endpoint not in BY_ANY_TOKEN:
        raise Forbidden("This needs a log-in: no personal access token can do it.")
    needed = Scope.READ if request.method in ("GET", "HEAD", "OPTIONS") else Scope.WRITE
    if needed not in actor.scopes:
        raise Forbidden(f"This needs a token with the scope {needed}.")
