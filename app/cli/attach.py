"""Commands typed beside a running `make run` act on what that runs.

The launcher keeps a lock on `DATA_DIR/lock` and writes into it which database and Redis it
started. A command that was told neither takes them from there; otherwise it would change the
database behind the back of the running caches.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path

from app.errors import ConfigError

REDIS_VARIABLES = ("REDIS_URL", "REDIS_HOST", "REDIS_NODES")
_HANDED_ON = ("DATABASE_URL", "REDIS_URL")


def announce(lock: Path, environ: Mapping[str, str]) -> None:
    """Write into the held lock file what its holder runs on."""
    chosen = {name: environ[name] for name in _HANDED_ON if environ.get(name)}
    lock.write_text(json.dumps(chosen), encoding="utf-8")


def attached(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ`, and where it names no database and no Redis, the running launcher's."""
    if any(environ.get(name) for name in ("DATABASE_URL", *REDIS_VARIABLES)):
        return environ
    lock = Path(environ.get("DATA_DIR") or "data") / "lock"
    if not _is_held(lock):
        return environ
    try:
        return {**environ, **json.loads(lock.read_text(encoding="utf-8"))}
    except ValueError:
        takes = "where `make run` is starting: try again in a moment"
        raise ConfigError("DATA_DIR", repr(str(lock.parent)), takes) from None


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
