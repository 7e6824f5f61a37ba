"""The cache scripts, called by their arguments' names, on one namespace."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.coordination import keys
from tests.lua.conftest import ScriptServer

NAMES = keys.cache("project:1", "tasks:first page")
META_TTL, TTL, ROOM = 60_000, 5_000, 1 << 20


class Synced(NamedTuple):
    """What cache_sync said."""

    epoch: bytes
    clock: int
    floor: int
    replid: bytes
    follows: int
    moved: dict[bytes, int]


def sync(
    server: ScriptServer, known: bytes = b"", seen: int = 0, *, most: int = 256, epoch: str = "e1"
) -> Synced:
    args = (known, seen, most, epoch, META_TTL)
    reply: list[Any] = server.run("cache_sync.v2", [NAMES.meta, NAMES.tags], *args)
    epoch_, clock, floor, replid, follows, *moved = reply
    told = dict(zip(moved[::2], moved[1::2], strict=True))
    return Synced(epoch_, clock, floor, replid, follows, told)


def read(server: ScriptServer, *, token: str = "t", epoch: str = "e1", lease: int = 5_000) -> Any:
    return server.run("cache_read.v1", [*NAMES], token, lease, epoch, META_TTL)


def store(server: ScriptServer, miss: Any, value: str, *, tags: str = "a", token: str = "t") -> int:
    _, sequence, epoch, _ = miss
    args = (token, sequence, epoch, TTL, META_TTL, tags, value, ROOM, TTL)
    return int(server.run("cache_store.v2", [*NAMES], *args))


def invalidate(server: ScriptServer, *tags: str, most: int = 1_000, epoch: str = "e2") -> int:
    names = [NAMES.meta, NAMES.tags]
    return int(server.run("tag_invalidate.v2", names, epoch, META_TTL, most, *tags)[0])
