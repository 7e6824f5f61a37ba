"""Locks of one primary on a bad network: lost replies, phantoms, broken waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.coordination import keys
from app.coordination.lock import LockService
from app.coordination.lock_debts import Debts
from app.coordination.lock_store import Granted, PrimaryStore, Taken
from app.errors import CoordinationError, LockBusy, RedisUnavailable
from tests.support.locks import LONG_MS, NAME, LockBench, LockServer
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

PATIENT_MS = 20_000


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@pytest.fixture
def bench(server: LockServer, valkey_proxy: Proxy) -> LockBench:
    """A process behind a network that can be made bad."""
    return server.bench(valkey_proxy.url)


@pytest.fixture
def other(server: LockServer) -> LockBench:
    """Another process, on a good network."""
    return server.bench()


# --- a reply that is lost -----------------------------------------------------------------------


def ask_again(server: LockServer, bench: LockBench, proxy: Proxy, token: str) -> Granted | Taken:
    """What `token` is told after the answer to the token `one` was lost."""
    proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        bench.store.take(NAME, "one", ttl_ms=LONG_MS, wait_ms=0)
    assert server.token() == "one"
    return bench.store.take(NAME, token, ttl_ms=LONG_MS, wait_ms=0)


def test_who_asks_again_with_the_same_token_gets_the_same_lease_and_fence(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    said = ask_again(server, bench, valkey_proxy, "one")
    assert isinstance(said, Granted)
    assert server.raw.mget(keys.lock(NAME).fence) == [str(said.fence)]
    assert server.raw.hget(keys.lock(NAME).lease, "fence") == str(said.fence)
    assert server.scripts_run() == 2


def test_who_asks_again_with_a_new_token_meets_himself(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    """The control of the test above."""
    assert isinstance(ask_again(server, bench, valkey_proxy, "two"), Taken)


def test_an_acquisition_with_retries_survives_a_lost_reply(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS, retries=1)
    assert server.token() == lease.token
    assert bench.outcomes() == {"connection": 1, "acquired": 1}
    assert server.scripts_run() == 2


def test_a_release_whose_reply_was_lost_has_released(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    with bench.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="closed"):
        valkey_proxy.drop_reply_once(after=b"EVALSHA")
    assert valkey_proxy.dropped_replies == 1
    assert server.token() is None


# --- what may be held without anybody knowing ---------------------------------------------------


def the_next_one_gets_in_at_once(bench: LockBench, proxy: Proxy, other: LockBench) -> None:
    """Somebody's answer was lost and he gave up; then the other asks once."""
    proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    other.locks.acquire(NAME, ttl_ms=LONG_MS)


def test_what_was_taken_without_an_answer_is_given_back(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy, other: LockBench
) -> None:
    the_next_one_gets_in_at_once(bench, valkey_proxy, other)
    assert server.scripts_run() == 3  # taken, given back, taken


def test_if_it_were_not_given_back_the_name_would_stay_taken(
    bench: LockBench, valkey_proxy: Proxy, other: LockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(LockService, "_give_back", lambda *_: None)
    with pytest.raises(LockBusy):
        the_next_one_gets_in_at_once(bench, valkey_proxy, other)


def test_a_token_of_the_callers_own_is_not_given_back(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    bench.locks.acquire(NAME, ttl_ms=LONG_MS, token="mine")
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS, token="mine")
    assert server.token() == "mine"
    assert server.scripts_run() == 2


def a_phantom_goes_away(server: LockServer, proxy: Proxy, *, within_s: float) -> None:
    """The answer is lost and so is the network, just before the lock would be given back."""

    class CutOff(PrimaryStore):
        def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
            try:
                return super().take(name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)
            except CoordinationError:
                proxy.cut()
                raise

    bench = server.bench(proxy.url, store=CutOff)
    proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    assert server.token() is not None
    proxy.restore()
    eventually(lambda: server.token() is None, timeout_s=within_s, what="the phantom's end")


def test_what_cannot_be_given_back_now_is_given_back_once_redis_is_there_again(
    server: LockServer, valkey_proxy: Proxy
) -> None:
    a_phantom_goes_away(server, valkey_proxy, within_s=10)


def test_without_the_background_it_would_stay_until_its_lease_ends(
    server: LockServer, valkey_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(Debts, "owe", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="the phantom's end"):
        a_phantom_goes_away(server, valkey_proxy, within_s=0.6)
    assert server.left_ms() > LONG_MS / 2


def test_a_block_that_ends_while_redis_is_away_releases_later(
    server: LockServer, bench: LockBench, valkey_proxy: Proxy
) -> None:
    with bench.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="closed") as lease:
        valkey_proxy.cut()
    assert server.token() == lease.token
    valkey_proxy.restore()
    eventually(lambda: server.token() is None, what="the release")


def test_a_release_that_is_owed_is_forgotten_once_the_lease_has_ended_by_itself(
    bench: LockBench, valkey_proxy: Proxy
) -> None:
    with bench.locks.hold(NAME, ttl_ms=400, on_loss="closed"):
        valkey_proxy.cut()
    due = bench.store._debts._ticker._due
    assert due
    eventually(lambda: not due, what="an idle background")


# --- waiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks", [Proxy.close_connections, Proxy.cut], ids=["once", "for long"])
def test_a_waiter_whose_connection_breaks_goes_on_waiting(
    server: LockServer,
    bench: LockBench,
    other: LockBench,
    valkey_proxy: Proxy,
    breaks: Callable[[Proxy], None],
) -> None:
    lease = other.locks.acquire(NAME, ttl_ms=LONG_MS)
    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(
            bench.locks.acquire, NAME, ttl_ms=LONG_MS, retries=None, wait_ms=PATIENT_MS
        )
        server.wait_until_blocked(1)
        breaks(valkey_proxy)
        if breaks is Proxy.cut:
            eventually(lambda: bench.outcomes().get("connection", 0) >= 2, what="vain tries")
            valkey_proxy.restore()
        server.wait_until_blocked(1)
        other.locks.release(lease)
        assert waiter.result(10).token == server.token()
