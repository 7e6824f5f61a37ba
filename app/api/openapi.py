"""The OpenAPI document: what the library makes of the handlers' types, completed by rule.

A handler names its own answer and what only it refuses. What every operation of its shape may
refuse (a body, an id, a version) is added here, so that no handler can forget it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flask_openapi import OpenAPI
from flask_openapi.utils import parse_rule

from app.api.authentication import needs_actor
from app.api.idempotency import KEY_MAX, KEY_PATTERN, takes_key
from app.api.problems import CONTENT_TYPE, KINDS, TYPES_AT
from app.api.visits import READS
from app.services.idempotency import FIELD

VERSION: Final = "3.1.0"
DESCRIPTION: Final = (
    "Task management: accounts, projects, tasks, due dates. Errors are RFC 9457 problems; "
    "changes need the version that they are based on (ETag, If-Match)."
)
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token of a log-in."}
}

_REFUSALS: Final = {
    "400": "The body is not readable JSON.",
    "401": "No log-in, or one that has ended.",
    "403": "The account's role, or the token's scopes, do not allow it.",
    "404": "It is not there, or this account may not see it.",
    "409": "The first request with this Idempotency-Key is still running.",
    "412": "It has changed since the version in If-Match.",
    "413": "The body is too large.",
    "415": "The body's type is not JSON.",
    "422": "Some fields cannot be taken.",
    "428": "If-Match is missing.",
    "429": "Too many requests; Retry-After says when to come again.",
    "500": "Something went wrong here.",
    "503": "The database is not available; Retry-After says when to try again.",
}
# Where a status has several kinds of problem: the one that operations of many shapes answer.
_USUAL: Final = {"409": "busy", "503": "database-unavailable"}
_ETAG: Final = {
    "description": "For If-None-Match; of what has a version, for If-Match too.",
    "schema": {"type": "string"},
}
_RETRY_AFTER: Final = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
_HELD: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of what is held already.",
    "schema": {"type": "string", "examples": ['"v3"']},
}
_LOCATION: Final = {"description": "Where it can be read.", "schema": {"type": "string"}}
_KEY: Final = {
    "name": FIELD,
    "in": "header",
    "required": False,
    "description": "Sent again within a day with the same key and body, it is answered the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": KEY_PATTERN},
}


def named_after_handler(*, name: str, path: str, method: str) -> str:  # noqa: ARG001  # the library passes all three by name
    """Operation ids are the handlers' names: they stay when paths move."""
    return name


def refused(description: str) -> dict[str, Any]:
    """A problem that only this handler answers, for its `responses`."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {CONTENT_TYPE: {"schema": schema}}}


def describe(app: OpenAPI) -> dict[str, Any]:
    """The whole document. Call it once, when all routes are there."""
    document: dict[str, Any] = app.api_doc
    schemas = document["components"]["schemas"]
    document["components"]["responses"] = {c: _shared(c, text) for c, text in _REFUSALS.items()}
    document["security"] = [{"bearer": []}]
    endpoints = _endpoints(app)
    for path, method, operation in operations(document):
        endpoint = endpoints[path, method]
        if not needs_actor(endpoint):
            operation["security"] = []
        if takes_key(endpoint, method):
            operation.setdefault("parameters", []).append(_KEY)
        _complete(path, operation)
        _add_headers(method, operation, schemas, kept=endpoint in READS)
        operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every (path, method in capitals, operation) of a document."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def _endpoints(app: OpenAPI) -> dict[tuple[str, str], str]:
    rules = app.url_map.iter_rules()
    return {(parse_rule(r.rule), m): r.endpoint for r in rules for m in r.methods or ()}


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add what operations of this shape refuse; the library's own 422 has another shape."""
    answers = operation["responses"]
    answers.pop("422", None)
    for code in _refusals(path, operation):
        answers.setdefault(code, {"$ref": f"#/components/responses/{code}"})


def _refusals(path: str, operation: dict[str, Any]) -> set[str]:
    parameters = {p["name"]: p["in"] for p in operation.get("parameters", ())}
    codes = {"429", "500", "503"} if path.startswith("/api/") else set()
    if operation.get("security") != []:
        codes |= {"401", "403"}
    if "requestBody" in operation:
        codes |= {"400", "413", "415", "422"}
    if "query" in parameters.values():
        codes |= {"422"}
    if "path" in parameters.values():
        codes |= {"404"}
    if "If-Match" in parameters:
        codes |= {"412", "428"}
    if FIELD in parameters:
        codes |= {"409", "422"}
    return codes


def _add_headers(
    method: str, operation: dict[str, Any], schemas: dict[str, Any], *, kept: bool
) -> None:
    """Name the headers that `app.api.answers` sends with what has a version, is kept, or is new."""
    for code in {"200", "201"} & operation["responses"].keys():
        response = operation["responses"][code]
        headers = {"Location": _LOCATION} if code == "201" else {}
        if kept or "version" in _properties(response, schemas):
            headers["ETag"] = _ETAG
            if method == "GET":
                unchanged = {"description": "Not changed since the ETag in If-None-Match."}
                operation["responses"]["304"] = unchanged
                operation.setdefault("parameters", []).append(_HELD)
        if headers:
            response["headers"] = headers


def _shared(code: str, description: str) -> dict[str, Any]:
    """A problem that operations of many shapes answer, with an example."""
    found = refused(description)
    of_status = (each for each in KINDS.values() if each.status == int(code))
    kind = KINDS[_USUAL[code]] if code in _USUAL else next(of_status)
    example = {
        "type": TYPES_AT + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": description,
        "instance": "/api/v1/projects",
    }
    if code == "422":
        example["errors"] = [{"field": "name", "message": "Field required"}]
    found["content"][CONTENT_TYPE]["example"] = example
    if code in ("429", "503"):
        found["headers"] = {"Retry-After": _RETRY_AFTER}
    return found


def _properties(response: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schemas.get(name, {}).get("properties", {})
    return found
