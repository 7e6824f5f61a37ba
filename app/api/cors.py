"""Pages of other origins: who may read our answers, by `CORS_ORIGINS` (Fetch, section 3.2).

Without the setting nothing is installed. Log-ins are tokens that a page sends itself, never
cookies: no browser is told to send credentials along, and `*` lets nobody act for somebody else.
"""

from __future__ import annotations

from flask import Flask, Response, current_app, request

from app.api.request_ids import HEADER as REQUEST_ID
from app.bootstrap import Container
from app.services.idempotency import FIELD as IDEMPOTENCY_KEY

ANYONE = "*"
_SENT = ", ".join(
    (
        *("Authorization", "Content-Type", "If-Match", "If-None-Match"),
        *(IDEMPOTENCY_KEY, REQUEST_ID),
    )
)
_EXPOSED = ", ".join(
    (
        *("ETag", "Location", "Retry-After", "WWW-Authenticate"),
        *("RateLimit", "RateLimit-Policy"),
        *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
        *("Idempotent-Replayed", REQUEST_ID),
    )
)
_REMEMBERED_S = "600"


def install(app: Flask, container: Container) -> None:
    """Answer preflights, before a log-in is asked for, and let the named origins read the rest."""
    origins = frozenset((container.settings.cors_origins or "").split(",")) - {""}
    if not origins:
        return

    def allow(response: Response) -> Response:
        if ANYONE not in origins:
            response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin and (ANYONE in origins or origin in origins):
            told = ANYONE if ANYONE in origins else origin
            response.headers["Access-Control-Allow-Origin"] = told
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    def preflight() -> Response | None:
        origin, method = map(request.headers.get, ("Origin", "Access-Control-Request-Method"))
        is_preflight = request.method == "OPTIONS" and method and request.url_rule
        if is_preflight and (ANYONE in origins or origin in origins):
            return _may_be_sent()
        return None

    app.before_request(preflight)
    app.after_request(allow)


def _may_be_sent() -> Response:
    response = Response(status=204)
    del response.headers["Content-Type"]
    methods = sorted(current_app.make_default_options_response().allow)
    response.headers["Access-Control-Allow-Methods"] = ", ".join(methods)
    response.headers["Access-Control-Allow-Headers"] = _SENT
    response.headers["Access-Control-Max-Age"] = _REMEMBERED_S
    return response
