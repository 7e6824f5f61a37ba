"""What the benchmark of HTTP compares with, as applications that gunicorn serves as it does ours.

Both answer `/tasks` with the tasks in the JSON file that `TASKS_FILE` names, out of memory: neither
asks a database who somebody is, nor for the tasks. Limits and times to live are those of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
from flask import Flask, Response, jsonify, request
from flask_caching import Cache
from flask_limiter import Limiter

LIMITS = "4000000/minute;6000000/hour;9000000/day"


def bare_flask() -> Flask:
    """A route, and nothing else."""
    app = new_peer()
    app.get("/tasks")(_answer(_tasks()))
    return app


def assembled_stack() -> Flask:
    """Flask-Limiter's moving windows with headers, and Flask-Caching, both on Redis."""
    app, url = new_peer(), os.environ["REDIS_URL"]
    app.config.update(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=url,
        CACHE_DEFAULT_TIMEOUT=int(os.environ["CACHE_TTL_S"]),
    )
    limiter = Limiter(
        lambda: request.headers["Authorization"],
        app=app,
        default_limits=[LIMITS],
        storage_uri=url,
        strategy="moving-window",
        headers_enabled=True,
    )
    cached = Cache(app).cached(query_string=True)
    app.get("/tasks")(cached(_answer(_tasks())))
    limiter.exempt(app.view_functions["live"])
    return app


def _tasks() -> Any:
    return orjson.loads(Path(os.environ["TASKS_FILE"]).read_bytes())


def _answer(tasks: Any) -> Callable[[], Response]:
    def answer() -> Response:
        return jsonify(tasks)

    return answer


def new_peer() -> Flask:
    """What gunicorn needs of an application, and a route that says that it is live."""
    app = Flask("peer")
    # gunicorn.conf.py asks every worker's application to find Redis.
    app.extensions["taskflow"] = _nothing_to_begin()

    @app.get("/health/live")
    def live() -> str:
        return "live"

    return app


def _nothing_to_begin() -> SimpleNamespace:
    """What `gunicorn.conf.py` asks of the service's parts."""

    def nothing() -> None:
        return None

    relay, fleet = SimpleNamespace(begin=nothing), SimpleNamespace(join=nothing)
    return SimpleNamespace(reach_redis=nothing, relay=relay, fleet=fleet, close=nothing)
