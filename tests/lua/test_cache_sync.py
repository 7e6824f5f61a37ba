"""cache_sync on every server: what a process is told, and when it must begin anew."""

from __future__ import annotations

import pytest

from tests.lua.cache_calls import META_TTL, NAMES, invalidate, read, store, sync
from tests.lua.conftest import ScriptServer


def test_a_process_that_knows_nothing_does_not_follow(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    said = sync(server)
    assert (said.epoch, said.clock, said.floor, said.follows, said.moved) == (b"e1", 1, 0, 0, {})


def test_an_empty_server_begins_the_epoch_that_was_offered(server: ScriptServer) -> None:
    said = sync(server, epoch="e7")
    assert (said.epoch, said.clock, said.floor, said.follows) == (b"e7", 0, 0, 0)
    assert sync(server, said.epoch, epoch="e8")[:3] == (b"e7", 0, 0)
    assert sync(server, said.epoch).follows == 1


def test_asked_to_begin_none_it_says_so_and_leaves_no_keys(server: ScriptServer) -> None:
    for known in (b"", b"e1"):
        said = sync(server, known, epoch="")
        assert (said.epoch, said.clock, said.floor, said.follows) == (b"", 0, 0, 0)
        assert said.replid
    assert server.do("EXISTS", NAMES.meta, NAMES.tags) == 0


def test_asked_to_begin_none_it_tells_of_the_one_there_is(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    assert sync(server, epoch="")[:3] == (b"e1", 1, 0)
    assert sync(server, b"e1", 0, epoch="").moved == {b"a": 1}


def test_it_tells_what_moved_after_what_was_seen_and_nothing_before(server: ScriptServer) -> None:
    for tag in ("a", "b", "a", "c"):
        invalidate(server, tag, epoch="e1")
    assert sync(server, b"e1", 2)[4:] == (1, {b"a": 3, b"c": 4})
    assert sync(server, b"e1", 3)[4:] == (1, {b"c": 4})


def test_it_tells_nothing_where_nothing_moved(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    assert sync(server, b"e1", 1)[1:] == (1, 0, sync(server).replid, 1, {})


def test_the_sentinel_is_never_told(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    assert sync(server, b"e1", 0).moved == {b"a": 1}


def test_another_epoch_is_not_followed(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    assert sync(server, b"e0", 1)[4:] == (0, {})


def test_an_answer_does_not_move_the_clock(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    assert [sync(server, b"e1", 0).clock for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(("seen", "follows"), [(2, 0), (3, 1), (4, 1), (5, 1)])
def test_who_has_not_seen_what_was_pruned_begins_anew(
    server: ScriptServer, seen: int, follows: int
) -> None:
    for tag in "abcde":
        invalidate(server, tag, most=2, epoch="e1")
    said = sync(server, b"e1", seen)
    assert (said.floor, said.follows) == (3, follows)
    told = {b"d": 4, b"e": 5}
    assert said.moved == {tag: at for tag, at in told.items() if follows and at > seen}


@pytest.mark.parametrize(("moved", "follows"), [(255, 1), (256, 1), (257, 0), (900, 0)])
def test_more_than_256_moved_tags_are_not_told(
    server: ScriptServer, moved: int, follows: int
) -> None:
    invalidate(server, "first", epoch="e1")
    for at in range(0, moved, 100):
        invalidate(server, *[f"t{number}" for number in range(at, min(at + 100, moved))])
    said = sync(server, b"e1", 1)
    assert (said.follows, len(said.moved)) == (follows, moved * follows)
    assert (said.epoch, said.clock) == (b"e1", 1 + -(-moved // 100))


@pytest.mark.parametrize("lost", ["meta", "tags"])
def test_meta_or_tags_lost_alone_begin_a_new_epoch(server: ScriptServer, lost: str) -> None:
    invalidate(server, "a", epoch="e1")
    server.do("DEL", getattr(NAMES, lost))
    said = sync(server, b"e1", 1, epoch="e9")
    assert (said.epoch, said.clock, said.floor, said.follows) == (b"e9", 0, 0, 0)
    assert server.do("ZRANGE", NAMES.tags, 0, -1) == [b"!e9"]


def test_both_lost_and_begun_anew_by_another_are_not_followed(server: ScriptServer) -> None:
    """The clock may have come back to where the process saw it."""
    invalidate(server, "a", epoch="e1")
    server.empty()
    invalidate(server, "b", epoch="e9")
    assert sync(server, b"e1", 1)[4:] == (0, {})


def test_tags_of_another_epoch_than_metas_begin_a_new_one(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    server.do("DEL", NAMES.tags)
    server.do("ZADD", NAMES.tags, 0, "!e0")
    assert sync(server, b"e1", 1, epoch="e9")[:2] == (b"e9", 0)


def test_another_replication_id_begins_a_new_epoch(server: ScriptServer) -> None:
    invalidate(server, "a", epoch="e1")
    server.do("HSET", NAMES.meta, "replid", "of a server that lost our last write")
    said = sync(server, b"e1", 1, epoch="e9")
    assert (said.epoch, said.follows) == (b"e9", 0)
    assert sync(server, b"e9", 0).follows == 1


def test_the_history_that_it_names_is_the_one_that_an_invalidation_names(
    server: ScriptServer,
) -> None:
    names = [NAMES.meta, NAMES.tags]
    _, replid = server.run("tag_invalidate.v2", names, "e1", META_TTL, 10, "a")
    assert sync(server, b"e1", 0).replid == replid
    assert sync(server, b"e1", 1).replid == replid
    assert server.do("HGET", NAMES.meta, "replid") == replid


@pytest.mark.parametrize("first", ["read", "sync", "invalidate"])
def test_whoever_comes_first_begins_an_epoch_that_the_others_share(
    server: ScriptServer, first: str
) -> None:
    if first == "read":
        read(server)
    elif first == "sync":
        sync(server)
    else:
        invalidate(server, "a", epoch="e1")
    assert sync(server, epoch="e9").epoch == b"e1"
    miss = read(server, token="b", epoch="e8")
    assert miss[2] == b"e1"
    assert store(server, miss, "v") == 1
    assert sync(server, b"e1", miss[1]).follows == 1


def test_every_key_that_it_writes_expires(server: ScriptServer) -> None:
    sync(server)
    for key in (NAMES.meta, NAMES.tags):
        assert 0 < server.do("PTTL", key) <= META_TTL
