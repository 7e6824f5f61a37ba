"""Taking, extending and releasing a lock of one primary: who gets it, what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.coordination import keys
from app.coordination.lease import LeaseState
from app.coordination.lock import MOST_TTL_MS
from app.errors import InvalidInput, LockBusy, LockLost, RedisUnavailable
from tests.support.locks import LONG_MS, NAME, LockBench, LockServer
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@pytest.fixture
def bench(server: LockServer) -> LockBench:
    return server.bench()


@pytest.fixture
def nobody() -> LockBench:
    """A lock service whose Redis is not there."""
    return LockBench(f"redis://127.0.0.1:{free_port()}/0")


# --- taking it ----------------------------------------------------------------------------------


def test_a_free_lock_is_taken_with_one_call(server: LockServer, bench: LockBench) -> None:
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    assert server.scripts_run() == 1
    assert server.token() == lease.token
    assert lease.state is LeaseState.HELD
    assert server.raw.hget(keys.lock(NAME).lease, "fence") == str(lease.fence)
    assert 0 < server.left_ms() <= LONG_MS
    assert bench.outcomes() == {"acquired": 1}


def test_a_taken_lock_is_refused_at_once_without_retries(
    server: LockServer, bench: LockBench
) -> None:
    bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    with pytest.raises(LockBusy, match="'sweep' is taken"):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    assert bench.outcomes() == {"acquired": 1, "busy": 1}
    assert server.scripts_run() == 2


def test_two_names_are_two_locks(bench: LockBench) -> None:
    bench.locks.acquire("one", ttl_ms=LONG_MS)
    bench.locks.acquire("two", ttl_ms=LONG_MS)
    assert bench.outcomes() == {"acquired": 2}


def test_the_same_token_gets_the_same_fence(bench: LockBench) -> None:
    first = bench.locks.acquire(NAME, ttl_ms=LONG_MS, token="mine")
    again = bench.locks.acquire(NAME, ttl_ms=LONG_MS, token="mine")
    assert again.fence == first.fence
    with pytest.raises(LockBusy):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS, token="another")


def test_fences_rise_from_holder_to_holder_whatever_the_server_has_lost(
    server: LockServer, bench: LockBench
) -> None:
    fences = list[int]()
    for _ in range(5):
        lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
        fences.append(lease.fence or 0)
        assert bench.locks.release(lease) is True
        server.raw.flushall()
    assert fences == sorted(set(fences))


GOOD = ["a", "7", "Sweep", "a.b_c:d/e@f-g", "x" * 128]
BAD = ["", "x" * 129, " a", "a b", "a\n", ".a", "-a", "a{b}", "a*", "é", "a%2f", "a\x00"]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_of_letters_digits_and_a_few_signs_is_taken(bench: LockBench, name: str) -> None:
    assert bench.locks.acquire(name, ttl_ms=1).name == name


@pytest.mark.parametrize("name", BAD)
def test_any_other_name_is_refused_before_the_server_is_asked(
    server: LockServer, bench: LockBench, name: str
) -> None:
    with pytest.raises(InvalidInput, match="A lock's name is"):
        bench.locks.acquire(name, ttl_ms=LONG_MS)
    with (
        pytest.raises(InvalidInput),
        bench.locks.hold(name, ttl_ms=LONG_MS, on_loss="open"),
    ):
        pytest.fail("the block must not run")
    assert (server.scripts_run(), bench.outcomes()) == (0, {})


@pytest.mark.parametrize(
    ("ttl_ms", "good"), [(1, True), (MOST_TTL_MS, True), (0, False), (MOST_TTL_MS + 1, False)]
)
def test_a_lease_lasts_from_a_millisecond_to_a_day(
    server: LockServer, bench: LockBench, ttl_ms: int, good: bool
) -> None:
    if good:
        assert bench.locks.acquire(NAME, ttl_ms=ttl_ms).ttl_ms == ttl_ms
    else:
        with pytest.raises(InvalidInput, match="A lock's time is"):
            bench.locks.acquire(NAME, ttl_ms=ttl_ms)
    assert server.scripts_run() == int(good)


# --- keeping it and giving it back --------------------------------------------------------------


def test_extending_gives_the_lease_its_whole_time_again(
    server: LockServer, bench: LockBench
) -> None:
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    fence, until = lease.fence, lease.until
    server.raw.pexpire(keys.lock(NAME).lease, 1_000)
    bench.locks.extend(lease)
    assert lease.until > until
    assert lease.fence == fence
    assert 1_000 < server.left_ms() <= LONG_MS
    assert bench.sample("lost_total") == 0


def test_a_lease_that_passed_on_cannot_be_extended(server: LockServer, bench: LockBench) -> None:
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    server.raw.delete(keys.lock(NAME).lease)
    other = server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
    with pytest.raises(LockLost):
        bench.locks.extend(lease)
    assert lease.state is LeaseState.LOST
    assert bench.sample("lost_total") == 1
    assert bench.locks.release(lease) is False
    assert server.token() == other.token


def test_a_lease_that_was_over_by_its_own_time_is_not_extended_by_a_slow_server(
    server: LockServer, bench: LockBench
) -> None:
    lease = bench.locks.acquire(NAME, ttl_ms=300)
    assert server.raw.pexpire(keys.lock(NAME).lease, LONG_MS)  # its clock is behind
    eventually(lambda: lease.state is LeaseState.LOST, what="the lease's end")
    with pytest.raises(LockLost):
        bench.locks.extend(lease)
    assert lease.state is LeaseState.LOST


def test_a_lock_is_released_while_redis_is_out_of_memory(
    server: LockServer, bench: LockBench
) -> None:
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    server.raw.config_set("maxmemory", 1)
    assert bench.locks.release(lease) is True
    assert server.token() is None


def test_a_passage_is_counted_with_its_wait_and_its_hold(bench: LockBench) -> None:
    for _ in range(3):
        bench.locks.release(bench.locks.acquire(NAME, ttl_ms=LONG_MS))
    assert bench.outcomes() == {"acquired": 3}
    assert bench.sample("wait_seconds_count") == 3
    assert bench.sample("hold_seconds_count") == 3
    assert bench.sample("lost_total") == 0


# --- for a block --------------------------------------------------------------------------------


def test_hold_releases_at_the_end_of_the_block_and_after_an_error(
    server: LockServer, bench: LockBench
) -> None:
    with bench.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="closed") as lease:
        lease.ensure_held()
        assert server.token() == lease.token
    assert server.token() is None
    with pytest.raises(ZeroDivisionError), bench.locks.hold(NAME, ttl_ms=1_000, on_loss="closed"):
        _ = 1 // 0
    assert server.token() is None
    assert bench.sample("hold_seconds_count") == 2


def test_a_decorated_function_takes_the_lock_anew_for_each_call(
    server: LockServer, bench: LockBench
) -> None:
    @bench.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="closed")
    def work(factor: int) -> tuple[int, str | None]:
        return 2 * factor, server.token()

    (first, one), (second, two) = work(1), work(2)
    assert (first, second) == (2, 4)
    assert None not in (one, two)
    assert one != two
    assert server.token() is None
    assert server.scripts_run() == 4


def test_what_to_do_without_redis_must_be_said(bench: LockBench) -> None:
    hold: Any = bench.locks.hold
    with pytest.raises(TypeError, match="on_loss"):
        hold(NAME, ttl_ms=LONG_MS)


def test_without_redis_an_open_block_runs_unprotected_and_that_is_counted_and_logged(
    nobody: LockBench,
) -> None:
    with (
        capture_logs() as logs,
        nobody.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="open") as lease,
    ):
        lease.ensure_held()
        assert (lease.protected, lease.fence, lease.state) == (False, None, LeaseState.UNKNOWN)
    assert nobody.sample("unprotected_total") == 1
    assert nobody.sample("hold_seconds_count") == 0
    unprotected = {"event": "lock.unprotected", "lock": NAME, "kind": "connection"}
    assert logs == [{**unprotected, "log_level": "warning"}]


def test_without_redis_a_closed_block_does_not_run(nobody: LockBench) -> None:
    with (
        pytest.raises(RedisUnavailable),
        nobody.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="closed"),
    ):
        pytest.fail("the block must not run")
    assert nobody.sample("unprotected_total") == 0
    assert nobody.outcomes() == {"connection": 1}


def test_open_is_for_a_lost_redis_and_not_for_a_taken_lock(bench: LockBench) -> None:
    bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    with pytest.raises(LockBusy), bench.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="open"):
        pytest.fail("the block must not run")
    assert bench.sample("unprotected_total") == 0
