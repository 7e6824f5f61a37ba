"""The lease and its fence, on every server: lock_acquire, lock_extend, lock_release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import ResponseError

from app.errors import RedisRefused
from tests.lua.conftest import FakeServer, ScriptServer
from tests.lua.lock_calls import FENCE_TTL, LOCK, WAKE_TTL, acquire, extend, release, state
from tests.support.waiting import eventually

REFUSALS = (RedisRefused, ResponseError)  # of a server, and of fakeredis


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
    assert int(server.do("GET", LOCK.fence)) == fence


def test_a_denied_token_changes_nothing(server: ScriptServer) -> None:
    acquire(server, "a")
    before = state(server)
    assert acquire(server, "b", ttl=60_000)[0] == 0
    assert state(server) == before
    assert server.do("PTTL", LOCK.lease) <= 5_000


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
    acquire(server, "b", wait=5_000)
    before = state(server)
    assert release(server, "b") == 0
    assert extend(server, "b", ttl=60_000) == 0
    assert state(server) == before
    assert server.do("PTTL", LOCK.lease) <= 5_000


def test_nobody_releases_or_extends_a_free_lock(server: ScriptServer) -> None:
    assert release(server, "a") == 0
    assert extend(server, "a") == 0
    assert server.do("EXISTS", *LOCK) == 0


def test_extending_counts_from_now_and_never_shortens(server: ScriptServer) -> None:
    acquire(server, "a", ttl=1_000)
    assert extend(server, "a", ttl=9_000) == 1
    assert 1_000 < server.do("PTTL", LOCK.lease) <= 9_000
    assert extend(server, "a", ttl=500) == 1
    assert 1_000 < server.do("PTTL", LOCK.lease) <= 9_000


def test_the_same_token_asking_for_less_keeps_what_it_was_promised(server: ScriptServer) -> None:
    acquire(server, "a", ttl=60_000)
    assert 30_000 < acquire(server, "a", ttl=500)[2] <= 60_000
    assert server.do("PTTL", LOCK.lease) > 30_000


def test_an_expired_lock_passes_on_and_its_old_holder_can_do_nothing(server: ScriptServer) -> None:
    _, first, _ = acquire(server, "a", ttl=50)
    eventually(lambda: acquire(server, "b")[0] == 1, what="the lease to expire")
    assert extend(server, "a") == 0
    assert release(server, "a") == 0
    assert acquire(server, "b")[1] > first


def test_fences_rise_even_when_everything_was_lost(server: ScriptServer) -> None:
    _, before, _ = acquire(server, "a")
    server.empty()
    _, after, _ = acquire(server, "b")
    assert after > before


def test_a_fence_starts_from_the_servers_clock(server: ScriptServer) -> None:
    before_us = server.now_us()
    assert before_us <= acquire(server, "a")[1] <= server.now_us()


def test_fences_rise_when_the_clock_stands_behind_the_counter(server: ScriptServer) -> None:
    ahead = server.now_us() + 3_600_000_000
    server.do("SET", LOCK.fence, ahead)
    assert acquire(server, "a")[1] == ahead + 1
    release(server, "a")
    assert acquire(server, "b")[1] == ahead + 2


def test_every_key_that_a_lock_writes_expires(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=2_000)
    assert 0 < server.do("PTTL", LOCK.lease) <= 5_000
    assert 0 < server.do("PTTL", LOCK.fence) <= FENCE_TTL
    assert 0 < server.do("PTTL", LOCK.waiters) <= 2_000
    release(server, "a")
    assert 0 < server.do("PTTL", LOCK.wake) <= WAKE_TTL
    assert server.do("EXISTS", *LOCK) == 3


# --- a server without memory --------------------------------------------------------------------


@contextmanager
def no_memory_left(server: ScriptServer) -> Iterator[None]:
    if isinstance(server, FakeServer):
        pytest.skip("fakeredis has no bound on its memory")
    _limit(server, 1)
    try:
        yield
    finally:
        _limit(server, 0)


def _limit(server: ScriptServer, maxmemory: int) -> None:
    server._raw.config_set(
        "maxmemory", maxmemory, **({"target_nodes": "all"} if server._anywhere() else {})
    )


def test_a_lock_is_released_and_extended_while_memory_is_full(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=5_000)
    with no_memory_left(server):
        assert extend(server, "a") == 1
        assert release(server, "a") == 1
        assert server.do("EXISTS", LOCK.lease) == 0


@pytest.mark.parametrize(("holders", "wait"), [("", 0), ("a", 5_000)], ids=["a lock", "a wait"])
def test_what_needs_memory_is_refused_while_it_is_full(
    server: ScriptServer, holders: str, wait: int
) -> None:
    for token in holders:
        acquire(server, token)
    before = state(server)
    with no_memory_left(server):
        with pytest.raises(RedisRefused) as refused:
            acquire(server, "b", wait=wait)
        assert refused.value.kind == "oom"
        assert state(server) == before


# --- bad arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(("fence_ttl", "wait"), [("soon", 0), (0, 0), (60_000, "long")])
def test_times_that_are_none_take_no_lock(
    server: ScriptServer, fence_ttl: str | int, wait: str | int
) -> None:
    acquire(server, "a")
    if wait == 0:
        release(server, "a")
    before = state(server)
    with pytest.raises(REFUSALS):
        server.run("lock_acquire.v2", [*LOCK], "b", 5_000, "host:1", fence_ttl, wait)
    assert state(server) == before


def test_a_lease_that_is_no_lease_is_refused_and_left(server: ScriptServer) -> None:
    server.do("SET", LOCK.lease, "not a hash")
    for attempt in (acquire, extend, release):
        with pytest.raises(REFUSALS):
            attempt(server, "a")
    assert server.do("GET", LOCK.lease) == b"not a hash"


def test_a_lease_that_cannot_be_given_an_end_is_not_kept(server: ScriptServer) -> None:
    """A lease for ever would keep everybody out for good."""
    with pytest.raises(REFUSALS):
        server.run("lock_acquire.v2", list(LOCK), "a", "1.5", "holder", 60_000, 0)
    assert server.do("EXISTS", LOCK.lease) == 0
    assert acquire(server, "b")[0] == 1


def test_who_gave_up_waiting_is_forgotten_by_the_next_who_waits(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=60_000)
    server.do("ZADD", LOCK.waiters, 1, "b")  # its time is over
    acquire(server, "c", wait=60_000)
    assert server.do("ZRANGE", LOCK.waiters, 0, -1) == [b"c"]
