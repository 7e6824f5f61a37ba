"""Renewals without an answer: doubt, the next one, or the end; and whose clock ends a lease."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from app.coordination.lease import Lease, LeaseState
from app.coordination.lock_store import Granted, PrimaryStore, Taken
from app.errors import LockBusy, LockLost, RedisUnavailable
from tests.support.locks import LONG_MS, NAME, LockServer
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

TTL_MS = 1_000


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@contextlib.contextmanager
def cut(valkey: Valkey, proxy: Proxy) -> Iterator[None]:  # noqa: ARG001  as below
    proxy.cut()
    yield
    proxy.restore()


@contextlib.contextmanager
def freeze(valkey: Valkey, proxy: Proxy) -> Iterator[None]:  # noqa: ARG001  as above
    valkey.freeze()
    yield
    valkey.thaw()


Fault = Callable[[Valkey, Proxy], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("fault", [cut, freeze])
def test_a_renewal_without_an_answer_leaves_the_lease_in_doubt_and_the_next_one_clears_it(
    server: LockServer, valkey_proxy: Proxy, fault: Fault
) -> None:
    bench, told = server.bench(valkey_proxy.url, timeout_s=0.3), list[Lease]()
    with bench.locks.hold(NAME, ttl_ms=2 * TTL_MS, on_loss="closed", on_lost=told.append) as lease:
        with fault(server.valkey, valkey_proxy):
            eventually(lambda: lease.state is LeaseState.UNKNOWN, what="doubt")
            lease.ensure_held()
        until = lease.until
        eventually(lambda: lease.state is LeaseState.HELD, what="a renewal")
        assert lease.until > until
        assert server.token() == lease.token
    assert told == []
    assert bench.sample("lost_total") == 0


@pytest.mark.parametrize("fault", [cut, freeze])
def test_a_lease_that_could_not_be_renewed_until_its_end_is_lost_for_good(
    server: LockServer, valkey_proxy: Proxy, fault: Fault
) -> None:
    bench, told = server.bench(valkey_proxy.url, timeout_s=0.6), list[LeaseState]()

    def lost(lease: Lease) -> None:
        told.append(lease.state)

    with bench.locks.hold(NAME, ttl_ms=TTL_MS, on_loss="closed", on_lost=lost) as lease:
        with fault(server.valkey, valkey_proxy):
            eventually(lambda: told, what="the news")
            with pytest.raises(LockLost):
                lease.ensure_held()
        with pytest.raises((LockLost, RedisUnavailable)):
            bench.locks.extend(lease)
        assert lease.state is LeaseState.LOST
    bench.wait_for_the_background()
    assert told == [LeaseState.LOST]
    eventually(lambda: server.token() is None, what="the end of the lease")


# --- whose clock ends first ---------------------------------------------------------------------


def state_when_the_name_passes_on(
    server: LockServer, proxy: Proxy, store: type[PrimaryStore]
) -> LeaseState:
    """What a holder, whose answer was slow, believes when the server gives the name to another."""
    bench, other, states = server.bench(proxy.url, store=store), server.bench(), list[LeaseState]()
    proxy.delay_ms = 600
    lease = bench.locks.acquire(NAME, ttl_ms=TTL_MS)

    def passes_on() -> bool:
        with contextlib.suppress(LockBusy):
            other.locks.acquire(NAME, ttl_ms=LONG_MS)
            states.append(lease.state)
        return bool(states)

    eventually(passes_on, what="the next holder")
    return states[0]


def test_the_holder_knows_of_the_end_before_the_server_gives_the_name_to_another(
    server: LockServer, valkey_proxy: Proxy
) -> None:
    state = state_when_the_name_passes_on(server, valkey_proxy, PrimaryStore)
    assert state is LeaseState.LOST


class CountsFromTheAnswer(PrimaryStore):
    def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
        said = super().take(name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)
        assert isinstance(said, Granted)
        return Granted(said.fence, time.monotonic() + ttl_ms / 1_000)


def test_if_it_counted_from_the_answer_two_would_believe_to_hold_it(
    server: LockServer, valkey_proxy: Proxy
) -> None:
    """The control of the test above."""
    state = state_when_the_name_passes_on(server, valkey_proxy, CountsFromTheAnswer)
    assert state is LeaseState.HELD
