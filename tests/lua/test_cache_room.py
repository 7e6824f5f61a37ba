"""cache_store: what a namespace has room for, on every server."""

from __future__ import annotations

from app.coordination import keys
from tests.lua.cache_calls import META_TTL, NAMES, TTL, invalidate
from tests.lua.conftest import ScriptServer


def keep(server: ScriptServer, key: str, value: str, *, room: int, window: int = TTL) -> int:
    """What storing under another key says."""
    names = keys.cache("project:1", key)
    _, sequence, epoch, _ = server.run("cache_read.v1", [*names], "t", 5_000, "e1", META_TTL)[:4]
    args = ("t", sequence, epoch, TTL, META_TTL, "tasks", value, room, window)
    return int(server.run("cache_store.v2", [*names], *args))


def size(key: str, value: str) -> int:
    return len(keys.cache("project:1", key).entry) + len("tasks") + len(value) + 200


def test_what_a_namespace_has_no_room_for_is_refused_and_frees_the_fill_lease(
    server: ScriptServer,
) -> None:
    room = size("a", "value") + size("b", "value")
    assert [keep(server, key, "value", room=room) for key in "abc"] == [1, 1, 2]
    names = keys.cache("project:1", "c")
    assert [server.do("EXISTS", each) for each in (names.entry, names.fill)] == [0, 0]


def test_one_byte_more_is_too_much(server: ScriptServer) -> None:
    assert keep(server, "a", "value", room=size("a", "value") - 1) == 2
    assert keep(server, "a", "value", room=size("a", "value")) == 1


def test_an_entry_that_is_replaced_takes_its_room_once(server: ScriptServer) -> None:
    room = size("a", "value") + size("b", "")
    for _ in range(3):
        assert keep(server, "a", "value", room=room) == 1
        invalidate(server, "tasks")
    assert [keep(server, key, "", room=room) for key in "bca"] == [1, 2, 1]
    assert keep(server, "c", "", room=room + 5) == 2  # of the value that was replaced
    assert keep(server, "c", "", room=room - 5 + size("c", "")) == 1


def test_a_window_later_there_is_room_again(server: ScriptServer) -> None:
    room = size("a", "value")
    assert [keep(server, key, "value", room=room, window=10_000) for key in "ab"] == [1, 2]
    server.do("HINCRBY", NAMES.meta, "since", -9_000)
    assert keep(server, "b", "value", room=room, window=10_000) == 2
    server.do("HINCRBY", NAMES.meta, "since", -1_000)
    assert [keep(server, key, "value", room=room, window=10_000) for key in "bc"] == [1, 2]


def test_what_the_window_before_held_counts_in_this_one_when_it_is_replaced(
    server: ScriptServer,
) -> None:
    room = size("a", "value")
    keep(server, "a", "value", room=room)
    for key in (NAMES.meta, keys.cache("project:1", "a").entry):
        server.do("HINCRBY", key, "since", -TTL)
    invalidate(server, "tasks")
    assert [keep(server, key, "value", room=room) for key in "ab"] == [1, 2]


def test_a_clock_that_stepped_back_begins_a_new_window(server: ScriptServer) -> None:
    room = size("a", "value")
    keep(server, "a", "value", room=room)
    server.do("HINCRBY", NAMES.meta, "since", 3_600_000)
    assert [keep(server, key, "value", room=room) for key in "bc"] == [1, 2]
