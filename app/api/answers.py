"""Views as answers: status, Location and ETag, the same way everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request

from app.api.compression import plain_tags
from app.api.json_provider import json_response
from app.api.schemas.conditions import tag_of
from app.errors import PreconditionFailed
from app.services.encoded import Encoded

_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


def answer(view: Mapping[str, Any]) -> Response:
    """200 with the view; with its version as ETag where it has one.

    A GET that already holds that version (`If-None-Match`) gets 304 and no body.
    """
    response = json_response(view)
    if "version" in view:
        _tag(response, tag_of(view["version"]))
    return response


def answer_encoded(found: Encoded[Any]) -> Response:
    """200 with a view as its bytes were kept, and its tag; 304 to whoever holds it already."""
    response = Response(found.json, mimetype="application/json")
    _tag(response, found.tag)
    return response


def created(view: Mapping[str, Any], location: str) -> Response:
    """201 with the view, and where it can be read again."""
    response = answer(view)
    response.status_code = 201
    response.headers["Location"] = location
    return response


def no_content() -> Response:
    """204: done, and nothing to say."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def _tag(response: Response, tag: str) -> None:
    """Say which version it is, and judge the request's conditions by it: 304, or 412."""
    response.set_etag(tag)
    names = [name for name in _CONDITIONS if name in request.environ]
    if names and request.method in ("GET", "HEAD"):
        conditions = {name: plain_tags(request.environ[name]) for name in names}
        response.make_conditional({**request.environ, **conditions})
        del response.headers["Date"]  # the server adds one to every answer
        if response.status_code == 412:
            raise PreconditionFailed("It is not at the version in If-Match.")
