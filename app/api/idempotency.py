"""`Idempotency-Key`: a POST that is sent again is done once, and answered the same.

Every POST that needs a log-in takes one, without a line of its own, but for those whose answer
holds a secret (`authentication.RETURNS_SECRET`): these are never kept, and ignore the header.
"""

from __future__ import annotations

import hashlib
import re

from flask import Flask, Response, current_app, request

from app.api.authentication import RETURNS_SECRET, needs_actor
from app.api.context import actor
from app.api.context import container as parts
from app.bootstrap import Container
from app.coordination.keys import safe
from app.db.idempotency import Asked
from app.errors import FieldError, InvalidInput
from app.services.idempotency import FIELD, Answer

REPLAYED = "Idempotent-Replayed"
KEY_MAX = 255
KEY_PATTERN = rf"^[\x21-\x7e]{{1,{KEY_MAX}}}$"
_KEY = re.compile(KEY_PATTERN)


# With the account that it ends, its own answer would go too.
NEVER_KEPT = RETURNS_SECRET | {"accounts.delete_account"}


class _Refused(Exception):
    """A handler's own answer is an error: what it did is undone."""


def install(app: Flask, _container: Container) -> None:
    """Stand between the checks of a request and its handler."""
    app.before_request(_answer_once)


def takes_key(endpoint: str | None, method: str) -> bool:
    """Whether an answer of this route may be kept, to be given again."""
    return method == "POST" and needs_actor(endpoint) and endpoint not in NEVER_KEPT


def _answer_once() -> Response | None:
    if FIELD not in request.headers or not takes_key(request.endpoint, request.method):
        return None
    made: list[Response] = []

    def perform() -> Answer:
        response = current_app.make_response(current_app.dispatch_request())
        made.append(response)
        if response.status_code >= 400:
            raise _Refused
        told = response.headers.get
        return Answer(response.status_code, response.get_data(), told("Location"), told("ETag"))

    try:
        first = parts().idempotency.once(_asked(), perform)
    except _Refused:
        first = None
    return made[-1] if first is None else _again(first)


def _asked() -> Asked:
    """The request, as far as it tells two of them apart.

    Raises:
        InvalidInput: a key that is none.
    """
    key = request.headers[FIELD]
    if not _KEY.fullmatch(key):
        reason = f"must be 1 to {KEY_MAX} visible ASCII characters, without spaces"
        raise InvalidInput("The key cannot be taken.", [FieldError(FIELD, reason)])
    digest = hashlib.sha256(request.query_string + b"\n" + request.get_data())
    return Asked(actor().account_id, request.method, safe(request.path), key, digest.hexdigest())


def _again(first: Answer) -> Response:
    response = Response(first.body, first.status, mimetype="application/json")
    if not first.body:
        del response.headers["Content-Type"]
    for name, value in (("Location", first.location), ("ETag", first.etag)):
        if value is not None:
            response.headers[name] = value
    response.headers[REPLAYED] = "true"
    return response
