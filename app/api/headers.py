"""What every answer says to browsers and caches."""

from __future__ import annotations

from flask import Flask, Response

from app.bootstrap import Container


def install(app: Flask, _container: Container) -> None:
    """Add the headers to every answer that has not set its own."""
    app.after_request(_harden)


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    # What carries an ETag may be kept by its reader and asked about; nothing else may be kept.
    keep = "private, no-cache" if "ETag" in response.headers else "no-store"
    response.headers.setdefault("Cache-Control", keep)
    return response
