"""`flask locks` as operators type it, and the locks of the instance that they look at."""

from __future__ import annotations

import io
import json
from typing import Any

from click.testing import Result
from flask_openapi import OpenAPI

from app.coordination.lease import Lease


def run(app: OpenAPI, *args: str, stdin: str | io.BytesIO | None = None) -> Result:
    return app.test_cli_runner().invoke(args=["locks", *args], input=stdin)


def said(app: OpenAPI, *args: str) -> dict[str, Any]:
    """What a command answers with `--json`."""
    done = run(app, *args, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def force(app: OpenAPI, name: str, *more: str, again: str | io.BytesIO | None = None) -> Result:
    """`flask locks release --force`, with the name typed again."""
    stdin = f"{name}\n" if again is None else again
    return run(app, "release", name, "--force", *more, stdin=stdin)


def acquire(app: OpenAPI, name: str, **more: Any) -> Lease:
    lease: Lease = app.extensions["taskflow"].locks.acquire(name, **{"ttl_ms": 60_000, **more})
    return lease


def identity(app: OpenAPI) -> str:
    return str(app.extensions["taskflow"].identity)
