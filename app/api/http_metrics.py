"""Requests counted and timed by route template: never by raw path, which has no bound."""

from __future__ import annotations

from time import perf_counter

from flask import Flask, Response, g, request

from app.bootstrap import Container

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def install(app: Flask, container: Container) -> None:
    """Count every request, also those that a later hook or the router refuses."""
    metrics = container.metrics

    @app.before_request
    def begin() -> None:
        metrics.http_in_flight.inc()
        g.started_at = perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        labels = {"method": _method(), "route": _route()}
        metrics.http_requests.labels(**labels, status=str(response.status_code)).inc()
        if "started_at" in g:
            metrics.http_seconds.labels(**labels).observe(perf_counter() - g.started_at)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        if g.pop("started_at", None) is not None:
            metrics.http_in_flight.dec()


def _method() -> str:
    """Callers may send any word as a method; a label may not be any word."""
    return request.method if request.method in _METHODS else "other"


def _route() -> str:
    return request.url_rule.rule if request.url_rule else "none"
