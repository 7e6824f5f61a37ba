"""Errors as answers: RFC 9457 `application/problem+json`, one shape for all.

`TABLE` is the one place where an error class becomes a status. A new error class needs a row
here if it may reach a caller; without one it is answered as a 500 and logged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

import orjson
import structlog
from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from app import errors
from app.errors import FieldError, TaskFlowError

CONTENT_TYPE = "application/problem+json"
TYPES_AT = "/problems/"
_MOST_FIELD_ERRORS = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: `slug` ends its `type`, and `title` is the same in every answer."""

    status: int
    slug: str
    title: str


TABLE: Mapping[type[TaskFlowError], Kind] = {
    errors.Unauthenticated: Kind(401, "not-logged-in", "A log-in is needed"),
    errors.InvalidCredentials: Kind(401, "wrong-credentials", "E-mail or password is wrong"),
    errors.Forbidden: Kind(403, "not-allowed", "This account may not do this"),
    errors.NotFound: Kind(404, "not-found", "Not found"),
    errors.Conflict: Kind(409, "conflict", "It contradicts what is stored"),
    errors.LockBusy: Kind(409, "busy", "Someone else is working on this"),
    errors.PreconditionFailed: Kind(412, "stale-version", "It has changed since it was read"),
    errors.InvalidInput: Kind(422, "invalid-input", "The input cannot be taken"),
    errors.PreconditionRequired: Kind(428, "version-needed", "A change needs If-Match"),
    errors.LimitsUnavailable: Kind(503, "limits-unavailable", "Rate limits cannot be decided"),
    errors.HashingBusy: Kind(503, "hashing-busy", "Too many passwords are being checked"),
    errors.PostBusy: Kind(503, "post-busy", "Too many mails are waiting"),
    errors.CoordinationError: Kind(503, "redis-unavailable", "Redis is not available"),
    errors.DatabaseUnavailable: Kind(503, "database-unavailable", "The database is not available"),
}

# What the web framework itself refuses, before any code of ours.
OF_STATUS: Mapping[int, Kind] = {
    400: Kind(400, "malformed", "The request cannot be read"),
    404: Kind(404, "not-found", "Not found"),
    405: Kind(405, "method-not-allowed", "This address does not take this method"),
    413: Kind(413, "too-large", "The body is too large"),
    414: Kind(414, "address-too-long", "The address is too long"),
    415: Kind(415, "not-json", "The body must be JSON"),
    429: Kind(429, "too-many-requests", "Too many requests"),
    431: Kind(431, "headers-too-large", "The headers are too large"),
    500: Kind(500, "internal-error", "Something went wrong here"),
}

# Said in place of the framework's own words, which speak to someone at a browser.
DETAILS: Mapping[int, str] = {
    400: "The request, or the JSON in its body, cannot be read.",
    404: "There is nothing at this address.",
    405: "Allow names the methods that this address takes.",
    413: "The body is larger than this service takes.",
    414: "The address is longer than this service takes.",
    415: "Send the body with Content-Type: application/json.",
    431: "The headers are more, or longer, than this service takes.",
}
KINDS: Mapping[str, Kind] = {kind.slug: kind for kind in (*TABLE.values(), *OF_STATUS.values())}


def problem(
    status: int,
    detail: str,
    *,
    kind: Kind | None = None,
    field_errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one refused request.

    Args:
        status: the HTTP status; picks the kind unless `kind` is given.
        detail: a sentence for whoever asked; never a secret, never a stack trace.
        field_errors: what is wrong with which field.
        headers: further headers, such as `Retry-After`.
    """
    body = _body(kind or _kind_of(status), status, detail, request.path)
    if field_errors:
        body["errors"] = [{"field": e.field, "message": e.message} for e in field_errors]
    response = Response(orjson.dumps(body) + b"\n", status, content_type=CONTENT_TYPE)
    response.headers.update(headers or {})
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def unreadable(status: int) -> bytes:
    """The body of the answer to what never became a request: its head could not be read."""
    detail = DETAILS.get(status) or DETAILS[400]
    return orjson.dumps(_body(_kind_of(status), status, detail, "")) + b"\n"


def install(app: Flask) -> None:
    """Answer every error that leaves a hook or a handler."""
    app.register_error_handler(TaskFlowError, on_known)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(Exception, on_unknown)


def on_known(error: TaskFlowError) -> Response:
    """An error of ours: its row in the table, or a 500 where it has none."""
    kind = next((TABLE[each] for each in type(error).__mro__ if each in TABLE), None)
    if kind is None:
        return on_unknown(error)
    headers = {}
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(getattr(error, "retry_after_s", 1))
        log.warning("not available", kind=kind.slug, error=str(error))
    field_errors = error.errors if isinstance(error, errors.InvalidInput) else ()
    detail = _detail(kind, error)
    return problem(kind.status, detail, kind=kind, field_errors=field_errors, headers=headers)


def on_http(error: HTTPException) -> Response:
    """What the framework refuses; its own headers stay, such as the `Allow` of a 405."""
    own = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    status = error.code or 500
    return problem(status, DETAILS.get(status) or error.description or "", headers=own)


def on_unknown(error: Exception) -> Response:
    """A bug: everything to the log, nothing to the caller."""
    log.error("unexpected error", exc_info=error, path=request.path)
    detail = "The error was logged under this request's X-Request-ID."
    return problem(500, detail)


def refuse_invalid(error: ValidationError) -> NoReturn:
    """Turn what pydantic found into the one shape of errors.

    Raises:
        InvalidInput: always.
    """
    told = error.errors(include_input=False, include_url=False)[:_MOST_FIELD_ERRORS]
    found = [FieldError(_path(each["loc"]), _sentence(each["msg"])) for each in told]
    raise errors.InvalidInput("Some fields cannot be taken; see errors.", found)


def _body(kind: Kind, status: int, detail: str, instance: str) -> dict[str, Any]:
    return {
        "type": TYPES_AT + kind.slug,
        "title": kind.title,
        "status": status,
        "detail": detail,
        "instance": instance,
    }


def _kind_of(status: int) -> Kind:
    phrase = HTTPStatus(status).phrase
    return OF_STATUS.get(status) or Kind(status, phrase.lower().replace(" ", "-"), phrase)


def _detail(kind: Kind, error: TaskFlowError) -> str:
    """What stands behind a 503 (hosts, drivers' words) is for the log, not for the caller."""
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return "Try again after the seconds in Retry-After."
    return str(error)


def _path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc) or "body"


def _sentence(message: str) -> str:
    """Without the prefix that pydantic puts before a validator's own words."""
    return message.removeprefix("Value error, ")
