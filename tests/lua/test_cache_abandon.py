"""cache_abandon on every server: what a miss began goes, and nothing else."""

from __future__ import annotations

import pytest

from tests.lua.cache_calls import META_TTL, NAMES, invalidate, read, store
from tests.lua.conftest import ScriptServer

BEGUN_TTL = META_TTL // 2


def begin(server: ScriptServer) -> list[object]:
    """A miss by "t" that begins the namespace, for `BEGUN_TTL`."""
    miss: list[object] = server.run("cache_read.v1", [*NAMES], "t", 5_000, "e1", BEGUN_TTL)
    return miss


def abandon(server: ScriptServer, token: str = "t") -> int:
    places = [NAMES.meta, NAMES.tags, NAMES.fill]
    return int(server.run("cache_abandon.v1", places, token, BEGUN_TTL))


def test_a_namespace_that_a_miss_began_is_gone(server: ScriptServer) -> None:
    miss = begin(server)
    assert abandon(server) == 1
    assert server.do("EXISTS", NAMES.meta, NAMES.tags, NAMES.fill) == 0
    assert store(server, miss, "of a load that was under way") == 0


@pytest.mark.parametrize("by", ["store", "move"])
def test_one_in_which_something_was_stored_or_moved_stays(server: ScriptServer, by: str) -> None:
    miss = begin(server)
    if by == "store":
        store(server, miss, "value")
    else:
        invalidate(server, "a")
    assert abandon(server) == 0
    assert server.do("EXISTS", NAMES.meta, NAMES.tags) == 2
    assert server.do("HGET", NAMES.meta, "epoch") == b"e1"


@pytest.mark.parametrize(("token", "leads"), [("t", 1), ("another", 0)])
def test_only_ones_own_fill_lease_is_freed(server: ScriptServer, token: str, leads: int) -> None:
    begin(server)
    abandon(server, token)
    assert read(server, token="next")[3] == leads


def test_where_there_is_nothing_nothing_is_taken_back(server: ScriptServer) -> None:
    assert abandon(server) == 0
