"""What a request's body must be before its schema is asked: JSON, readable, an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge

from app.bootstrap import Container
from app.errors import InvalidInput


def install(app: Flask, _container: Container) -> None:
    """Check the body of every handler that takes one."""
    app.before_request(_check)


def peeked() -> Mapping[str, Any]:
    """The object in the body, for what looks before it is checked; empty where there is none.

    Whatever is wrong with the body is told by `_check`.
    """
    try:
        found = request.get_json(silent=True)
    except Exception:  # of the server too: it parses chunks as they are read
        return {}
    return found if isinstance(found, dict) else {}


def _check() -> None:
    """Answers 415 (not JSON), 413 (too large) or 400 (malformed) from within `get_json`.

    Raises:
        InvalidInput: JSON, but not an object. The schema layer would read a string as JSON again.
    """
    if request.method == "OPTIONS" or not _takes_body():
        return
    if request.is_json:
        _refuse_unreadable()
        _refuse_cut_off()
    if not isinstance(request.get_json(), dict):
        raise InvalidInput("The body must be a JSON object.")


def _refuse_unreadable() -> None:
    """The server parses chunks as they are read: what it raises here, the client has sent."""
    try:
        request.get_data()
    except HTTPException:
        raise
    except Exception as error:
        raise BadRequest("The body cannot be read.") from error


def _refuse_cut_off() -> None:
    """A chunked body is read up to the limit and no further, without an error of its own."""
    limit = request.max_content_length
    if limit is not None and request.content_length is None and len(request.get_data()) >= limit:
        raise RequestEntityTooLarge


def _takes_body() -> bool:
    view = current_app.view_functions.get(request.endpoint or "")
    return "body" in getattr(view, "__annotations__", {})
