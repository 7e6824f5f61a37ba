"""What a request's body must be before its schema is asked: JSON, readable, an object."""

from __future__ import annotations

from flask import Flask, current_app, request

from app.bootstrap import Container
from app.errors import InvalidInput


def install(app: Flask, _container: Container) -> None:
    """Check the body of every handler that takes one."""
    app.before_request(_check)


def _check() -> None:
    """Answers 415 (not JSON), 413 (too large) or 400 (malformed) from within `get_json`.

    Raises:
        InvalidInput: JSON, but not an object. The schema layer would read a string as JSON again.
    """
    if not _takes_body():
        return
    if not isinstance(request.get_json(), dict):
        raise InvalidInput("The body must be a JSON object.")


def _takes_body() -> bool:
    view = current_app.view_functions.get(request.endpoint or "")
    return "body" in getattr(view, "__annotations__", {})
