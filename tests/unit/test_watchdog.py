"""A held lease is renewed while its holder works, and a loss is noticed once and told once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from app.coordination import keys
from app.coordination.lease import Lease, LeaseState
from app.coordination.lock_inspection import LockInspection
from app.coordination.lock_store import PrimaryStore
from app.coordination.ticker import Plan
from app.coordination.watchdog import OnLost, Watch
from app.errors import LockBusy, LockLost
from tests.support.locks import LONG_MS, NAME, SCRIPTS, LockBench, LockServer
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

TTL_MS = 900


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@pytest.fixture
def bench(server: LockServer) -> LockBench:
    return server.bench()


def is_lost(lease: Lease) -> bool:
    return lease.state is LeaseState.LOST


# --- renewing -----------------------------------------------------------------------------------


def outlive_two_leases(server: LockServer, lease: Lease) -> None:
    """The name is still the holder's when two lives of the lease have passed."""
    over_s = lease.since + 2.2 * TTL_MS / 1_000
    eventually(lambda: time.monotonic() > over_s, what="two lives of the lease")
    assert server.token() == lease.token
    assert lease.state is LeaseState.HELD
    with pytest.raises(LockBusy):
        server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)


def test_a_held_lease_is_renewed_for_as_long_as_its_holder_works(
    server: LockServer, bench: LockBench
) -> None:
    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed") as lease:
        first_end, fence = lease.until, lease.fence
        outlive_two_leases(server, lease)
        assert lease.until > first_end
        assert server.raw.hget(keys.lock(NAME).lease, "fence") == str(fence)
        # Taken, refused to the other, and a renewal for each third of the time.
        thirds = (time.monotonic() - lease.since) / (TTL_MS / 3_000)
        assert server.scripts_run() <= 2 + thirds
    assert server.token() is None
    assert bench.sample("lost_total") == 0


def test_without_the_watchdog_the_lease_would_have_ended(
    server: LockServer, bench: LockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(bench.locks._ticker, "add", lambda *_: Plan(lambda: None))
    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed") as lease:
        with pytest.raises(AssertionError):
            outlive_two_leases(server, lease)
        assert is_lost(lease)


def test_a_lease_held_for_more_than_twice_its_time_is_shown_as_stuck_until_it_is_released(
    bench: LockBench,
) -> None:
    with (
        capture_logs() as logs,
        bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed") as lease,
    ):
        assert bench.sample("stuck") == 0
        eventually(lambda: bench.sample("stuck") == 1, what="the gauge")
        assert time.monotonic() - lease.since > 2 * TTL_MS / 1_000
        until = lease.until
        eventually(lambda: lease.until > until, what="a further renewal")
        assert bench.sample("stuck") == 1
    assert bench.sample("stuck") == 0
    assert [log["event"] for log in logs] == ["lock.stuck"]


def test_after_the_block_nothing_is_renewed(server: LockServer, bench: LockBench) -> None:
    with bench.locks.hold(NAME, ttl_ms=90, on_loss="closed"):
        pass
    run = server.scripts_run()
    eventually(lambda: not bench.locks._ticker._due, what="the end of the watch")
    bench.wait_for_the_background()
    assert server.scripts_run() == run


# --- losing -------------------------------------------------------------------------------------


def force(server: LockServer) -> None:
    inspection = LockInspection([server.bench().client], SCRIPTS)
    assert inspection.force(inspection.show(NAME)) is True


def delete(server: LockServer) -> None:
    server.raw.delete(keys.lock(NAME).lease)


def flush(server: LockServer) -> None:
    server.raw.flushall()


@pytest.mark.parametrize("taken", [force, delete, flush])
def test_whoever_is_robbed_of_the_lock_finds_out_at_the_next_renewal(
    server: LockServer, bench: LockBench, taken: Callable[[LockServer], None]
) -> None:
    told = list[Lease]()
    with (
        capture_logs() as logs,
        bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed", on_lost=told.append) as lease,
    ):
        taken(server)
        other = server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)
        eventually(lambda: told, what="the news")
        assert lease.state is LeaseState.LOST
        with pytest.raises(LockLost):
            lease.ensure_held()
    bench.wait_for_the_background()
    assert told == [lease]
    assert bench.sample("lost_total") == 1
    assert [log["event"] for log in logs] == ["lock.lost"]
    assert server.token() == other.token  # what is not one's own any more is not released


def test_a_lease_that_was_lost_stays_lost_even_if_the_server_changes_its_mind(
    server: LockServer, bench: LockBench
) -> None:
    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed") as lease:
        server.raw.rename(keys.lock(NAME).lease, "tf:1:{lock:sweep}:away")
        eventually(lambda: is_lost(lease), what="the loss")
        server.raw.hset(keys.lock(NAME).lease, "token", lease.token)
        with pytest.raises(LockLost):
            bench.locks.extend(lease)
        assert lease.state is LeaseState.LOST


def test_a_holder_who_cannot_be_told_does_not_stop_the_renewals_of_others(
    server: LockServer, bench: LockBench
) -> None:
    told = list[str]()

    def fail(lease: Lease) -> None:
        told.append(lease.name)
        raise ZeroDivisionError

    with capture_logs() as logs:
        robbed_beside_another(server, bench, fail)
        eventually(lambda: len(logs) == 2, what="the log of the failure")
    assert told == [NAME]
    assert [log["event"] for log in logs] == ["lock.lost", "lock.on_lost_failed"]
    assert bench.sample("lost_total") == 1


def test_a_holder_who_takes_long_to_be_told_does_not_stop_the_renewals_of_others(
    server: LockServer, bench: LockBench
) -> None:
    goes_on = threading.Event()

    def hang(_lease: Lease) -> None:
        assert goes_on.wait(20)

    robbed_beside_another(server, bench, hang)
    goes_on.set()


def robbed_beside_another(server: LockServer, bench: LockBench, on_lost: OnLost) -> None:
    """One lease is lost; the other one of the process is renewed afterwards."""
    told = threading.Event()

    def tell(lease: Lease) -> None:
        told.set()
        on_lost(lease)

    with (
        bench.locks.hold("other", ttl_ms=TTL_MS, on_loss="closed") as other,
        bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed", on_lost=tell),
    ):
        delete(server)
        eventually(told.is_set, what="the news")
        until = other.until
        eventually(lambda: other.until > until, what="a further renewal")
        other.ensure_held()


def test_a_loss_that_the_holder_finds_first_is_counted_once(
    server: LockServer, bench: LockBench
) -> None:
    told = list[Lease]()
    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed", on_lost=told.append) as lease:
        delete(server)
        with pytest.raises(LockLost):
            bench.locks.extend(lease)
        eventually(lambda: told == [lease], what="the news")
    assert bench.sample("lost_total") == 1


def test_many_short_blocks_with_a_long_lease_leave_nothing_behind(bench: LockBench) -> None:
    for number in range(300):
        with bench.locks.hold(f"{NAME}-{number}", ttl_ms=3_600_000, on_loss="closed"):
            pass
    assert len(bench.locks._ticker._due) < 150


# --- letting go in the middle of a renewal ------------------------------------------------------


def release_during_a_renewal(server: LockServer) -> tuple[list[Lease], float]:
    """Who was told of a loss, and how many were counted."""
    comes, goes_on = threading.Event(), threading.Event()

    class Hesitant(PrimaryStore):
        def extend(self, name: str, token: str, *, ttl_ms: int) -> float | None:
            comes.set()
            assert goes_on.wait(10)
            return super().extend(name, token, ttl_ms=ttl_ms)

    bench, told = server.bench(store=Hesitant), list[Lease]()
    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed", on_lost=told.append):
        assert comes.wait(10)
    assert server.token() is None
    goes_on.set()
    bench.wait_for_the_background()
    return told, bench.sample("lost_total")


def test_a_release_in_the_middle_of_a_renewal_is_no_loss(server: LockServer) -> None:
    assert release_during_a_renewal(server) == ([], 0)


def test_if_the_watch_did_not_end_first_it_would_be_one(
    server: LockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(Watch, "end", lambda _watch: None)
    told, lost = release_during_a_renewal(server)
    assert (len(told), lost) == (1, 1)
