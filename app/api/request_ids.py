"""One id for each request: taken from the caller if it is harmless, and always answered."""

from __future__ import annotations

import re

import structlog
from flask import Flask, Response, g, request
from uuid_utils import uuid4

from app.bootstrap import Container

HEADER = "X-Request-ID"
_HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,64}")


def install(app: Flask, container: Container) -> None:
    """Bind the id to every log line of the request, and send it back."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get(HEADER, "")
        g.request_id = given if _HARMLESS.fullmatch(given) else uuid4().hex
        # Threads are reused and begin with nothing bound: set what this request's lines carry.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(instance=container.identity, request_id=g.request_id)

    app.after_request(_answer)


def _answer(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
