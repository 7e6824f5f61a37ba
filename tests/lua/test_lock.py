"""lock_acquire, lock_extend and lock_release, on every server."""

from __future__ import annotations

from app.coordination import keys
from tests.lua.conftest import ScriptServer
from tests.support.waiting import eventually

LOCK = keys.lock("sweep")
FENCE_TTL = 60_000


def acquire(server: ScriptServer, token: str, ttl: int = 5_000) -> list[int]:
    taken: list[int] = server.run("lock_acquire.v1", [*LOCK], token, ttl, "host:1", FENCE_TTL)
    return taken


def extend(server: ScriptServer, token: str, ttl: int = 5_000) -> int:
    return int(server.run("lock_extend.v1", [LOCK.lease], token, ttl))


def release(server: ScriptServer, token: str) -> int:
    return int(server.run("lock_release.v1", [LOCK.lease], token))


def test_one_token_holds_the_lock_and_another_is_told_how_long(server: ScriptServer) -> None:
    taken, fence, ttl = acquire(server, "a")
    assert (taken, ttl) == (1, 5_000)
    assert fence > 0
    denied, no_fence, left = acquire(server, "b")
    assert (denied, no_fence) == (0, 0)
    assert 0 < left <= 5_000


def test_the_same_token_gets_its_own_fence_back_and_its_whole_time(server: ScriptServer) -> None:
    _, fence, _ = acquire(server, "a", ttl=1_000)
    assert acquire(server, "a", ttl=9_000) == [1, fence, 9_000]
    assert server.do("PTTL", LOCK.lease) > 1_000


def test_a_released_lock_is_free_and_the_next_fence_is_higher(server: ScriptServer) -> None:
    _, first, _ = acquire(server, "a")
    assert release(server, "a") == 1
    taken, second, _ = acquire(server, "b")
    assert taken == 1
    assert second > first


def test_a_token_that_does_not_hold_the_lock_neither_releases_nor_extends_it(
    server: ScriptServer,
) -> None:
    acquire(server, "a")
    assert release(server, "b") == 0
    assert extend(server, "b", ttl=60_000) == 0
    assert server.do("HGET", LOCK.lease, "token") == b"a"
    assert server.do("PTTL", LOCK.lease) <= 5_000


def test_extending_counts_from_now(server: ScriptServer) -> None:
    acquire(server, "a", ttl=1_000)
    assert extend(server, "a", ttl=9_000) == 1
    assert 1_000 < server.do("PTTL", LOCK.lease) <= 9_000


def test_an_expired_lock_passes_on_and_its_old_holder_can_do_nothing(server: ScriptServer) -> None:
    _, first, _ = acquire(server, "a", ttl=50)
    eventually(lambda: acquire(server, "b")[0] == 1, what="the lease to expire")
    assert extend(server, "a") == 0
    assert release(server, "a") == 0
    assert acquire(server, "b")[1] > first


def test_fences_rise_even_when_the_counter_was_lost(server: ScriptServer) -> None:
    _, before, _ = acquire(server, "a")
    server.empty()
    _, after, _ = acquire(server, "b")
    assert after > before


def test_fences_rise_when_the_clock_stands_behind_the_counter(server: ScriptServer) -> None:
    ahead = server.now_us() + 3_600_000_000
    server.do("SET", LOCK.fence, ahead)
    assert acquire(server, "a")[1] == ahead + 1


def test_every_key_that_a_lock_writes_expires(server: ScriptServer) -> None:
    acquire(server, "a")
    assert 0 < server.do("PTTL", LOCK.lease) <= 5_000
    assert 0 < server.do("PTTL", LOCK.fence) <= FENCE_TTL


def test_the_holder_is_written_for_operators(server: ScriptServer) -> None:
    acquire(server, "a")
    assert server.do("HGET", LOCK.lease, "holder") == b"host:1"
    assert int(server.do("HGET", LOCK.lease, "since")) <= server.now_us() // 1_000_000
