"""Waiting for a lock: how often it is asked for, who is woken, in which order, without polling."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.coordination import keys
from app.coordination.lease import Lease
from app.coordination.lock_inspection import LockInspection
from app.errors import LockBusy, RedisUnavailable
from tests.support.locks import LONG_MS, NAME, SCRIPTS, LockBench, LockServer
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

PATIENT_MS = 20_000


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


def take(bench: LockBench) -> Lease:
    """Wait for the lock."""
    return bench.locks.acquire(NAME, ttl_ms=LONG_MS, retries=None, wait_ms=PATIENT_MS)


def wake(server: LockServer, times: int) -> None:
    """Wake-ups of no release, beside another who waits: they may be for that one."""
    another_waits(server)
    server.raw.rpush(keys.lock(NAME).wake, *["1"] * times)


def another_waits(server: LockServer) -> None:
    server.raw.zadd(keys.lock(NAME).waiters, {"another": 2**53})


# --- how often it is asked for ------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_a_taken_lock_is_asked_for_once_and_once_for_each_retry(
    server: LockServer, retries: int
) -> None:
    server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
    wake(server, 20)  # no wait is long
    bench = server.bench()
    with pytest.raises(LockBusy):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS, retries=retries, wait_ms=PATIENT_MS)
    assert server.scripts_run() == 1 + 1 + retries
    assert bench.outcomes() == {"busy": 1 + retries}
    assert server.raw.llen(keys.lock(NAME).wake) == 20 - retries


def test_a_redis_that_is_not_there_is_asked_once_and_once_for_each_retry() -> None:
    nobody = LockBench(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(RedisUnavailable):
        nobody.locks.acquire(NAME, ttl_ms=1, retries=3, wait_ms=PATIENT_MS)
    assert nobody.outcomes() == {"connection": 4}


def test_without_time_to_wait_it_is_asked_for_once(server: LockServer) -> None:
    server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
    bench = server.bench()
    with pytest.raises(LockBusy):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS, retries=None, wait_ms=0)
    assert bench.outcomes() == {"busy": 1}
    assert server.raw.exists(keys.lock(NAME).waiters) == 0


def test_the_wait_ends_with_its_time_and_was_no_polling(server: LockServer) -> None:
    server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
    bench = server.bench()
    with pytest.raises(LockBusy):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS, retries=None, wait_ms=300)
    # First and last; one more where the server's clock ends the wait before ours does.
    assert bench.outcomes()["busy"] in (2, 3)
    assert server.left_ms() > LONG_MS / 2


# --- who is woken -------------------------------------------------------------------------------


def test_a_release_wakes_the_waiter_who_then_asks_just_once_more(server: LockServer) -> None:
    holder = server.bench()
    lease = holder.locks.acquire(NAME, ttl_ms=LONG_MS)
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(take, server.bench())
        server.wait_until_blocked(1)
        holder.locks.release(lease)
        taken = waiter.result(10)
    assert server.scripts_run() == 4  # taken, refused, released, taken
    assert server.token() == taken.token
    assert (taken.fence or 0) > (lease.fence or 0)


def test_each_release_wakes_one_in_the_order_in_which_they_came(server: LockServer) -> None:
    order = list[int]()

    def wait(number: int) -> Lease:
        lease = take(server.bench())
        order.append(number)
        return lease

    holder = server.bench()
    lease = holder.locks.acquire(NAME, ttl_ms=LONG_MS)
    with ThreadPoolExecutor() as pool:
        waiters = []
        for number in range(4):
            waiters.append(pool.submit(wait, number))
            server.wait_until_blocked(number + 1)
        for number, waiter in enumerate(waiters):
            holder.locks.release(lease)
            lease = waiter.result(10)
            assert order == list(range(number + 1))
            server.wait_until_blocked(3 - number)
    assert server.scripts_run() == 1 + 4 + 4 * 2  # taken, refused, released and taken


def test_a_dead_holders_lock_passes_on_at_the_end_of_its_lease(server: LockServer) -> None:
    dead = server.bench().locks.acquire(NAME, ttl_ms=300)
    bench = server.bench()
    lease = take(bench)
    # Fences start from the server's microseconds: this is when it was, in lives of the lease.
    lives = ((lease.fence or 0) - (dead.fence or 0)) / 300_000
    assert 0.9 < lives < 10
    # Refused once; once more where the server ends the wait just before it ends the lease.
    assert bench.outcomes()["busy"] in (1, 2)


def test_all_who_wait_for_a_dead_holder_get_the_lock_one_after_the_other(
    server: LockServer,
) -> None:
    def pass_through() -> int:
        bench = server.bench()
        lease = take(bench)
        assert bench.locks.release(lease) is True
        return lease.fence or 0

    server.bench().locks.acquire(NAME, ttl_ms=300)
    with ThreadPoolExecutor() as pool:
        fences = [each.result(15) for each in [pool.submit(pass_through) for _ in range(5)]]
    assert len(set(fences)) == 5
    assert server.raw.exists(keys.lock(NAME).lease, keys.lock(NAME).waiters) == 0


def test_a_waiter_does_not_take_the_connection_of_whoever_releases(server: LockServer) -> None:
    bench = server.bench(max_connections=1)
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(take, bench)
        server.wait_until_blocked(1)
        assert bench.locks.release(lease) is True
        assert waiter.result(10).token == server.token()


def test_whoever_cannot_be_woken_tries_again_by_the_clock(server: LockServer) -> None:
    server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
    another_waits(server)
    server.raw.set(keys.lock(NAME).wake, "nothing to block on")
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(take, server.bench())
        eventually(lambda: server.scripts_run() >= 1 + 3, what="tries by the clock")
        server.raw.delete(keys.lock(NAME).lease)
        assert waiter.result(10).token == server.token()


# --- and who is not -----------------------------------------------------------------------------


def woken_by_a_release(server: LockServer) -> Lease:
    """A waiter gets the lock with its last try."""
    holder = server.bench()
    lease = holder.locks.acquire(NAME, ttl_ms=LONG_MS)
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(
            server.bench().locks.acquire, NAME, ttl_ms=LONG_MS, retries=1, wait_ms=PATIENT_MS
        )
        server.wait_until_blocked(1)
        holder.locks.release(lease)
        return waiter.result(10)


def test_a_waiter_who_got_the_lock_with_its_last_try_is_no_waiter_any_more(
    server: LockServer,
) -> None:
    lease = woken_by_a_release(server)
    assert server.raw.exists(keys.lock(NAME).waiters) == 0
    server.bench().locks.release(lease)
    assert server.raw.exists(keys.lock(NAME).wake) == 0


def test_a_waiter_who_gave_up_before_its_time_is_no_waiter_any_more(server: LockServer) -> None:
    holder = server.bench()
    lease = holder.locks.acquire(NAME, ttl_ms=LONG_MS)
    wake(server, 1)
    with pytest.raises(LockBusy):
        server.bench().locks.acquire(NAME, ttl_ms=LONG_MS, retries=1, wait_ms=PATIENT_MS)
    server.raw.zrem(keys.lock(NAME).waiters, "another")
    inspection = LockInspection([holder.client], SCRIPTS)
    eventually(lambda: inspection.show(NAME).waiters == 0, timeout_s=2, what="the note's end")
    holder.locks.release(lease)
    assert server.raw.exists(keys.lock(NAME).wake) == 0


# --- one at a time ------------------------------------------------------------------------------


def most_at_once(server: LockServer, names: list[str]) -> int:
    """How many were inside at the same time, of as many threads as names with three passages."""
    inside, most, guard = 0, 0, threading.Lock()
    meets = threading.Barrier(2)

    def pass_through(name: str) -> None:
        nonlocal inside, most
        locks = server.bench().locks
        for _ in range(3):
            with locks.hold(
                name, ttl_ms=LONG_MS, on_loss="closed", retries=None, wait_ms=PATIENT_MS
            ):
                with guard:
                    inside += 1
                    most = max(most, inside)
                meet(meets)
                with guard:
                    inside -= 1

    with ThreadPoolExecutor() as pool:
        for passage in [pool.submit(pass_through, name) for name in names]:
            passage.result(30)
    return most


def meet(barrier: threading.Barrier) -> None:
    """Stay long enough for another to come in, if another can."""
    try:
        barrier.wait(0.03)
    except threading.BrokenBarrierError:
        barrier.reset()


def test_no_two_are_inside_at_the_same_time(server: LockServer) -> None:
    assert most_at_once(server, [NAME] * 4) == 1


def test_without_a_lock_in_common_two_are(server: LockServer) -> None:
    """The control of the test above."""
    assert most_at_once(server, ["one", "two"]) == 2
