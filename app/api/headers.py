"""What every answer says to browsers and caches."""

from __future__ import annotations

from flask import Flask, Response

from app.bootstrap import Container

# An answer is data: no browser may guess its type, frame it, run it, or pass on where it came from.
_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HTTPS_ONLY = ("Strict-Transport-Security", "max-age=31536000")


def install(app: Flask, container: Container) -> None:
    """Add the headers to every answer; those that a page needs otherwise, it sets itself."""
    production = container.settings.app_env == "production"
    always = (*_ALWAYS, _HTTPS_ONLY) if production else _ALWAYS

    def add(response: Response) -> Response:
        response.headers.extend(always)
        return _harden(response)

    app.after_request(add)


def _harden(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    # What carries an ETag may be kept by its reader and asked about; nothing else may be kept.
    keep = "private, no-cache" if "ETag" in response.headers else "no-store"
    response.headers.setdefault("Cache-Control", keep)
    return response
