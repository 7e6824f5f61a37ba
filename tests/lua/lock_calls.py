"""The lock scripts, called by their arguments' names, and what stands behind one lock."""

from __future__ import annotations

from typing import Any

from app.coordination import keys
from tests.lua.conftest import ScriptServer

LOCK = keys.lock("sweep")
FENCE_TTL, WAKE_TTL = 60_000, 10_000
_LONG_GONE = 1_000  # a moment in 1970, ms


def acquire(server: ScriptServer, token: str, ttl: int = 5_000, *, wait: int = 0) -> list[int]:
    args = (token, ttl, "host:1", FENCE_TTL, wait)
    taken: list[int] = server.run("lock_acquire.v2", [*LOCK], *args)
    return taken


def extend(server: ScriptServer, token: str, ttl: int = 5_000) -> int:
    return int(server.run("lock_extend.v1", [LOCK.lease], token, ttl))


def release(server: ScriptServer, token: str, wake_ttl: int = WAKE_TTL) -> int:
    names = [LOCK.lease, LOCK.waiters, LOCK.wake]
    return int(server.run("lock_release.v2", names, token, wake_ttl))


def inspect(server: ScriptServer) -> list[Any]:
    shown: list[Any] = server.run("lock_inspect.v1", [*LOCK[:3]])
    return shown


def wakes(server: ScriptServer) -> int:
    return int(server.do("LLEN", LOCK.wake))


def gives_up(server: ScriptServer, token: str) -> None:
    """The token's deadline passes."""
    assert server.do("ZADD", LOCK.waiters, "XX", "CH", _LONG_GONE, token) == 1


def state(server: ScriptServer) -> list[Any]:
    """All that a lock is, but for how long."""
    return [
        server.do("HMGET", LOCK.lease, "token", "fence", "holder", "since"),
        server.do("GET", LOCK.fence),
        server.do("ZRANGE", LOCK.waiters, 0, -1),
        server.do("LRANGE", LOCK.wake, 0, -1),
    ]
