"""Who waits for a lock and who is woken, and what operators see of it, on every server."""

from __future__ import annotations

import pytest

from tests.lua.conftest import ScriptServer
from tests.lua.lock_calls import LOCK, acquire, extend, gives_up, inspect, release, state, wakes
from tests.support.waiting import eventually


def test_a_waiter_is_noted_until_the_end_of_its_wait(server: ScriptServer) -> None:
    acquire(server, "a")
    before_ms = server.now_us() // 1_000
    acquire(server, "b", wait=2_000)
    until_ms = int(server.do("ZSCORE", LOCK.waiters, "b"))
    assert before_ms + 2_000 <= until_ms <= server.now_us() // 1_000 + 2_000


def test_a_waiter_with_little_patience_does_not_make_the_others_forgotten(
    server: ScriptServer,
) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=60_000)
    acquire(server, "c", wait=1)
    assert server.do("PTTL", LOCK.waiters) > 1_000
    assert server.do("ZCARD", LOCK.waiters) == 2


def test_a_caller_who_will_not_wait_is_not_noted_and_wakes_nobody(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=0)
    assert server.do("EXISTS", LOCK.waiters) == 0
    release(server, "a")
    assert wakes(server) == 0


def test_a_waiter_who_gets_the_lock_waits_no_more(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=5_000)
    release(server, "a")
    assert acquire(server, "b", wait=5_000)[0] == 1
    assert server.do("EXISTS", LOCK.waiters) == 0


@pytest.mark.parametrize("waiters", [1, 2, 20])
def test_a_release_wakes_exactly_one_however_many_wait(server: ScriptServer, waiters: int) -> None:
    acquire(server, "a")
    for number in range(waiters):
        acquire(server, f"waiter {number}", wait=5_000)
    assert release(server, "a") == 1
    assert wakes(server) == 1


def test_a_release_wakes_nobody_where_nobody_waits(server: ScriptServer) -> None:
    acquire(server, "a")
    assert release(server, "a") == 1
    assert server.do("EXISTS", LOCK.lease, LOCK.waiters, LOCK.wake) == 0


def test_a_release_wakes_nobody_where_all_have_given_up(server: ScriptServer) -> None:
    acquire(server, "a")
    for token in ("b", "c"):
        acquire(server, token, wait=5_000)
        gives_up(server, token)
    assert release(server, "a") == 1
    assert server.do("EXISTS", LOCK.waiters, LOCK.wake) == 0


def test_a_release_forgets_those_who_gave_up_and_wakes_for_those_who_did_not(
    server: ScriptServer,
) -> None:
    acquire(server, "a")
    for token in ("b", "c"):
        acquire(server, token, wait=5_000)
    gives_up(server, "b")
    release(server, "a")
    assert server.do("ZRANGE", LOCK.waiters, 0, -1) == [b"c"]
    assert wakes(server) == 1


def test_wake_ups_that_nobody_took_do_not_pile_up(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=5_000)
    for _ in range(3):
        acquire(server, "a")
        assert release(server, "a") == 1
        assert wakes(server) == 1


def test_a_wake_up_that_nobody_took_expires(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=5_000)
    release(server, "a", wake_ttl=50)
    eventually(lambda: wakes(server) == 0, what="the end of the wake-up")


# --- what operators see -------------------------------------------------------------------------


def test_a_held_lock_shows_its_holder_its_age_its_end_its_fence_and_who_waits(
    server: ScriptServer,
) -> None:
    before_s = server.now_us() // 1_000_000
    _, fence, _ = acquire(server, "a")
    for token in ("b", "c", "d"):
        acquire(server, token, wait=5_000)
    gives_up(server, "d")
    token, holder, since, left, last_fence, waiters, now = inspect(server)
    assert (token, holder, int(last_fence), waiters) == (b"a", b"host:1", fence, 2)
    assert before_s <= int(since) <= int(now) <= server.now_us() // 1_000_000
    assert 0 < left <= 5_000


def test_a_free_lock_shows_its_last_fence_and_nothing_else(server: ScriptServer) -> None:
    _, fence, _ = acquire(server, "a")
    release(server, "a")
    *held, left, last_fence, waiters, _ = inspect(server)
    assert held == [None, None, None]
    assert left < 0
    assert (int(last_fence), waiters) == (fence, 0)


def test_a_lock_that_never_was_shows_not_even_that_and_looking_writes_nothing(
    server: ScriptServer,
) -> None:
    before_s = server.now_us() // 1_000_000
    *held, left, last_fence, waiters, now = inspect(server)
    assert (held, last_fence, waiters) == ([None, None, None], None, 0)
    assert left < 0
    assert before_s <= int(now) <= server.now_us() // 1_000_000
    assert server.do("EXISTS", *LOCK) == 0


def test_looking_at_a_lock_leaves_it_as_it_is(server: ScriptServer) -> None:
    acquire(server, "a")
    acquire(server, "b", wait=5_000)
    gives_up(server, "b")
    before = state(server)
    inspect(server)
    assert state(server) == before


def test_a_renewed_lease_keeps_its_age(server: ScriptServer) -> None:
    acquire(server, "a")
    server.do("HSET", LOCK.lease, "since", 1_000)
    acquire(server, "a")
    extend(server, "a")
    assert inspect(server)[2] == b"1000"
