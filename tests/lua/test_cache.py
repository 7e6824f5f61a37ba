"""cache_read, cache_store and tag_invalidate, on every server."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest

from app.coordination import keys
from tests.lua.conftest import ScriptServer
from tests.support.waiting import eventually

NAMES = keys.cache("project:1", "tasks:first page")
META_TTL, TTL, ROOM = 60_000, 5_000, 1 << 20


def read(server: ScriptServer, token: str = "t", epoch: str = "e1", lease: int = 5_000) -> Any:
    """The miss, or of a hit no more than that it is one and its value."""
    said = server.run("cache_read.v1", [*NAMES], token, lease, epoch, META_TTL)
    return [1, said[3]] if said[0] else said


def store(
    server: ScriptServer,
    miss: Any,
    value: str,
    *,
    tags: str = "tasks",
    token: str = "t",
) -> int:
    _, sequence, epoch, _ = miss
    args = (token, sequence, epoch, TTL, META_TTL, tags, value, ROOM, TTL)
    return int(server.run("cache_store.v2", [*NAMES], *args))


def invalidate(server: ScriptServer, *tags: str, most: int = 100, epoch: str = "e2") -> int:
    names = [NAMES.meta, NAMES.tags]
    return int(server.run("tag_invalidate.v2", names, epoch, META_TTL, most, *tags)[0])


@pytest.mark.parametrize("wrong", ["meta", "tags"])
def test_what_is_of_a_wrong_type_is_deleted_by_an_invalidation_that_begins_anew(
    server: ScriptServer, wrong: str
) -> None:
    miss = read(server)
    store(server, miss, "old")
    name = getattr(NAMES, wrong)
    server.do("DEL", name)
    server.do("RPUSH", name, "not ours")
    assert invalidate(server, "b", epoch="e9") == 1
    assert (server.do("TYPE", NAMES.meta), server.do("TYPE", NAMES.tags)) == (b"hash", b"zset")
    assert read(server) == [0, 1, b"e9", 1]


def test_a_miss_then_a_store_then_a_hit(server: ScriptServer) -> None:
    miss = read(server)
    assert miss == [0, 0, b"e1", 1]
    assert store(server, miss, "value") == 1
    assert read(server) == [1, b"value"]


def test_one_caller_loads_and_the_others_are_told_so(server: ScriptServer) -> None:
    assert read(server, token="a")[3] == 1
    assert read(server, token="b")[3] == 0


def test_a_store_frees_the_fill_lease(server: ScriptServer) -> None:
    miss = read(server)
    invalidate(server, "tasks")
    assert store(server, miss, "old") == 0
    assert read(server, token="b")[3] == 1


def test_a_loader_that_died_is_replaced_when_its_lease_ends(server: ScriptServer) -> None:
    read(server, token="a", lease=50)
    eventually(lambda: read(server, token="b")[3] == 1, what="the fill lease to expire")


def test_invalidating_a_tag_makes_its_entries_misses(server: ScriptServer) -> None:
    store(server, read(server), "value", tags="tasks\nlabels")
    assert invalidate(server, "labels") == 1
    assert read(server)[0] == 0


def test_another_tag_leaves_the_entry_valid(server: ScriptServer) -> None:
    store(server, read(server), "value")
    invalidate(server, "members")
    assert read(server) == [1, b"value"]


def test_a_value_loaded_before_a_write_and_stored_after_it_is_refused(
    server: ScriptServer,
) -> None:
    miss = read(server)
    invalidate(server, "tasks")
    assert store(server, miss, "old") == 0
    assert read(server, token="b")[0] == 0


def test_a_value_loaded_after_the_write_is_stored(server: ScriptServer) -> None:
    invalidate(server, "tasks", epoch="e1")
    miss = read(server)
    assert miss[1] == 1
    assert store(server, miss, "new") == 1
    assert read(server) == [1, b"new"]


def test_invalidating_twice_is_harmless(server: ScriptServer) -> None:
    assert invalidate(server, "tasks") == 1
    assert invalidate(server, "tasks") == 2
    store(server, read(server), "value")
    assert read(server)[0] == 1


def test_a_lost_meta_begins_a_new_epoch_in_which_everything_misses(server: ScriptServer) -> None:
    store(server, read(server), "value")
    server.do("DEL", NAMES.meta)
    assert read(server, epoch="e9") == [0, 0, b"e9", 1]


def test_a_lost_tag_list_begins_a_new_epoch_in_which_everything_misses(
    server: ScriptServer,
) -> None:
    store(server, read(server), "value")
    server.do("DEL", NAMES.tags)
    assert read(server, epoch="e9")[0] == 0


def test_another_replication_id_begins_a_new_epoch(server: ScriptServer) -> None:
    store(server, read(server), "value")
    server.do("HSET", NAMES.meta, "replid", "of a server that lost our last write")
    assert read(server, epoch="e9")[:3] == [0, 0, b"e9"]


def test_a_store_of_an_earlier_epoch_is_refused(server: ScriptServer) -> None:
    miss = read(server)
    server.do("DEL", NAMES.meta)
    read(server, epoch="e9", token="b")
    assert store(server, miss, "old") == 0


def test_pruning_raises_the_floor_so_that_forgotten_tags_cannot_hide_a_move(
    server: ScriptServer,
) -> None:
    store(server, read(server), "value", tags="a")
    for tag in "abcde":
        invalidate(server, tag, most=2)
    assert server.do("ZCARD", NAMES.tags) == 3
    assert server.do("HGET", NAMES.meta, "floor") == b"3"
    assert read(server)[0] == 0


def test_an_entry_loaded_at_the_floor_stays_valid(server: ScriptServer) -> None:
    for tag in "abc":
        invalidate(server, tag, most=1)
    miss = read(server)
    assert miss[1] == 3
    store(server, miss, "value", tags="a")
    assert read(server) == [1, b"value"]


def test_invalidation_makes_all_entries_misses_and_touches_none(
    server: ScriptServer,
) -> None:
    pages = [keys.cache("project:1", f"page {number}") for number in range(50)]
    args = ("t", 5_000, "e1", META_TTL)
    for names in pages:
        _, sequence, epoch, _ = server.run("cache_read.v1", [*names], *args)
        server.run(
            "cache_store.v2", [*names], "t", sequence, epoch, TTL, META_TTL, "tasks", "v", ROOM, TTL
        )
    entries = [server.do("HGETALL", names.entry) for names in pages]
    invalidate(server, "tasks")
    assert [server.do("HGETALL", names.entry) for names in pages] == entries  # not one touched
    assert [server.run("cache_read.v1", [*names], *args)[0] for names in pages] == [0] * 50


def test_every_key_that_the_cache_writes_expires(server: ScriptServer) -> None:
    miss = read(server)
    assert 0 < server.do("PTTL", NAMES.fill) <= 5_000
    store(server, miss, "value")
    assert 0 < server.do("PTTL", NAMES.entry) <= TTL
    assert 0 < server.do("PTTL", NAMES.meta) <= META_TTL
    assert 0 < server.do("PTTL", NAMES.tags) <= META_TTL


# --- looking, and forgetting all ------------------------------------------------------------------


def inspect(server: ScriptServer, *entries: str, values: int = 0) -> Any:
    return server.run("cache_inspect.v1", [NAMES.meta, NAMES.tags, *entries], values)


def test_an_entry_is_shown_as_a_reader_would_judge_it(server: ScriptServer) -> None:
    other = NAMES.entry + ":none"
    assert inspect(server, NAMES.entry) == [None, 0, 0, 0, None]
    store(server, read(server), "value", tags="tasks\nstats")
    *head, entry, none = inspect(server, NAMES.entry, other)
    assert (head, none) == ([b"e1", 0, 0, 0], None)
    assert entry[:4] == [0, b"tasks\nstats", 1, 5]
    assert 0 < entry[4] <= TTL
    assert entry[5] is None
    assert inspect(server, NAMES.entry, values=1)[4][5] == b"value"
    invalidate(server, "another")
    assert inspect(server, NAMES.entry)[4][2] == 1
    invalidate(server, "stats")
    assert inspect(server, NAMES.entry) == [b"e1", 2, 0, 2, [0, b"tasks\nstats", 0, 5, ANY, None]]


def test_looking_begins_no_epoch_and_keeps_nothing_alive(server: ScriptServer) -> None:
    inspect(server, NAMES.entry)
    assert server.do("EXISTS", NAMES.meta) == 0
    store(server, read(server), "value")
    server.do("HSET", NAMES.meta, "replid", "another server's")
    assert inspect(server, NAMES.entry)[0] is None
    assert inspect(server, NAMES.entry)[4][2] == 0
    assert server.do("HGET", NAMES.meta, "replid") == b"another server's"


def test_under_the_floor_an_entry_is_shown_stale(server: ScriptServer) -> None:
    store(server, read(server), "value")
    server.do("HSET", NAMES.meta, "floor", 1)
    assert inspect(server, NAMES.entry)[4][2] == 0


def test_what_is_forgotten_is_a_miss_and_so_is_what_was_being_loaded(server: ScriptServer) -> None:
    names = [NAMES.meta, NAMES.tags]
    assert server.run("cache_forget.v1", names) == 0
    miss = read(server)
    assert store(server, miss, "value") == 1
    assert server.run("cache_forget.v1", names) == 1
    assert inspect(server, NAMES.entry)[4][2] == 0
    assert store(server, miss, "old") == 0
    assert read(server, epoch="e3")[:3] == [0, 0, b"e3"]
