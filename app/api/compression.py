"""Large answers are compressed for whoever accepts gzip (RFC 9110, section 8.4).

A strong entity tag names bytes, so the compressed form has its own: `"v3-gzip"` beside `"v3"`. In
requests both name the same version (`plain_tags`). What holds a secret is never compressed: with
something in it that an attacker chose, its length would tell of the rest (BREACH).
"""

from __future__ import annotations

import gzip

from flask import Flask, Response, request

from app.api.authentication import RETURNS_SECRET
from app.bootstrap import Container

LEAST_BYTES = 1_024
_LEVEL = 4
_SUFFIX = "-gzip"
_TEXTS = ("application/json", "application/problem+json", "text/")


def install(app: Flask, _container: Container) -> None:
    """Compress behind every other hook, so that what these see and keep is plain."""
    app.after_request(_compress)


def plain_tags(header: str) -> str:
    """The tags of a condition as the plain forms have them."""
    return header.replace(f'{_SUFFIX}"', '"')


def _compress(response: Response) -> Response:
    if response.status_code == 304:
        # The tag of the form that is held: what a 200 would have had.
        if f'{_SUFFIX}"' in request.headers.get("If-None-Match", ""):
            _mark_tag(response)
        return response
    if not _is_large_text(response) or request.endpoint in RETURNS_SECRET:
        return response
    response.vary.add("Accept-Encoding")
    if _is_accepted():
        response.set_data(gzip.compress(response.get_data(), _LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
        _mark_tag(response)
    return response


def _is_large_text(response: Response) -> bool:
    length = response.content_length
    return (
        length is not None
        and length >= LEAST_BYTES
        and not response.direct_passthrough
        and (response.mimetype or "").startswith(_TEXTS)
    )


def _is_accepted() -> bool:
    accepted = request.headers.get("Accept-Encoding", "")
    return "gzip" in accepted and request.accept_encodings["gzip"] > 0


def _mark_tag(response: Response) -> None:
    tag, weak = response.get_etag()
    if tag is not None:
        response.set_etag(f"{tag}{_SUFFIX}", weak=bool(weak))
