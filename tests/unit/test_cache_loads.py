"""Loads that the threads of a process share, as far as each may have them; what is not kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.coordination import cache as cache_module
from app.coordination import cache_calls, keys
from app.coordination.flights import Flight, Flights
from app.coordination.values import MOST_BYTES, TOO_LARGE
from tests.support.caches import HOME, SCRIPTS, TASKS, Process
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

READERS = 40
NAMES = keys.cache(HOME, "list")


class Source:
    """A database that answers when it is let go, by the value that it had when it was asked."""

    def __init__(self) -> None:
        self.asked, self.value, self.let_go = 0, 0, threading.Event()
        self.error: Exception | None = None

    def __call__(self) -> bytes:
        self.asked, value = self.asked + 1, self.value
        assert self.let_go.wait(20)
        if self.error:
            raise self.error
        return str(value).encode()


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def process(valkey: Valkey) -> Iterator[Process]:
    made = Process(valkey.url)
    yield made
    made.client.close()


@pytest.fixture
def other(valkey: Valkey) -> Iterator[Process]:
    made = Process(valkey.url)
    yield made
    made.client.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill leases lapse, and who waits for one gives up, long before the load has ended."""
    monkeypatch.setattr(cache_calls, "_FILL_LEASE_MS", 20)
    monkeypatch.setattr(cache_module, "_WAIT_ALL_S", 0.05)


def read_at_once(
    process: Process, source: Source, *, until: Callable[[], bool] = lambda: True
) -> list[Future[int]]:
    """So many threads that read one key; the source is let go when all have asked Redis."""
    told = ("miss", "wait", "shared")
    with ThreadPoolExecutor(READERS) as pool:
        reads = [pool.submit(process.read, source) for _ in range(READERS)]
        eventually(
            lambda: sum(process.events(each) for each in told) >= READERS and until(),
            what="all to have asked",
        )
        source.let_go.set()
    return reads


@pytest.mark.usefixtures("impatient")
def test_a_load_that_outlasts_its_lease_is_one_for_all_threads_of_its_process(
    process: Process, source: Source
) -> None:
    reads = read_at_once(process, source)
    assert ([read.result() for read in reads], source.asked) == ([0] * READERS, 1)
    assert (process.events("miss"), process.events("stored")) == (1, 1)


@pytest.mark.usefixtures("impatient")
def test_without_sharing_many_threads_would_have_loaded(
    process: Process, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(Flights, "claim", lambda _self, _flight: True)
    monkeypatch.setattr(Flights, "board", lambda _self, place: (Flight(place), True))
    reads = read_at_once(process, source, until=lambda: source.asked > 1)
    assert [read.result() for read in reads] == [0] * READERS


def test_a_load_that_fails_has_failed_for_all_who_followed_it(
    process: Process, source: Source
) -> None:
    source.error = ZeroDivisionError()
    reads = read_at_once(process, source)
    assert {type(read.exception()) for read in reads} == {ZeroDivisionError}
    assert source.asked == 1
    assert process.events("load_failed") == 1
    assert (process.events("store_refused"), process.events("stored")) == (0, 0)


def test_after_a_load_that_failed_the_next_reader_loads_without_waiting(
    process: Process, other: Process, source: Source
) -> None:
    source.error = ZeroDivisionError()
    source.let_go.set()
    with pytest.raises(ZeroDivisionError):
        process.read(source)
    assert (other.read(), other.events("miss"), other.events("wait")) == (0, 1, 0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("planted", "shown"), [(False, 1), (True, 0)])
def test_who_was_told_of_a_change_does_not_share_a_load_from_before_it(
    process: Process, source: Source, monkeypatch: pytest.MonkeyPatch, planted: bool, shown: int
) -> None:
    """Planted, loads are told apart by their keys alone."""
    if planted:
        monkeypatch.setattr(cache_module, "_place", lambda wanted, *_: wanted[:2])
    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(process.read, source)
        eventually(lambda: source.asked == 1, what="the earlier load")
        process.value = source.value = 1
        process.cache.invalidate([TASKS])
        later = pool.submit(process.read)
        eventually(lambda: later.done() or process.events("shared") == 1, what="the later read")
        source.let_go.set()
        assert (earlier.result(), later.result()) == (0, shown)


def test_who_waits_for_another_process_has_what_a_thread_beside_it_loads_meanwhile(
    process: Process,
    other: Process,
    source: Source,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "_WAIT_FIRST_S", 30.0)
    source.let_go.set()
    elsewhere = Source()
    with ThreadPoolExecutor(2) as pool:
        led = pool.submit(other.read, elsewhere)
        eventually(lambda: elsewhere.asked == 1, what="the other process's load")
        waits = pool.submit(process.read, source)
        eventually(lambda: process.events("wait") == 1, what="somebody who waits")
        with valkey.client() as raw:
            raw.delete(NAMES.fill)  # as if it had lapsed
        assert process.read(source) == 0
        assert (waits.result(), source.asked, process.events("shared")) == (0, 1, 1)
        elsewhere.let_go.set()
        led.result()


def test_a_look_whose_answer_is_lost_leaves_nobody_waiting(
    valkey_proxy: Proxy, other: Process
) -> None:
    process = Process(valkey_proxy.url)
    process.read(key="another")
    valkey_proxy.drop_reply_once(after=SCRIPTS["cache_read.v1"].sha.encode())
    assert (process.read(), process.events("fallback")) == (0, 1)
    assert valkey_proxy.dropped_replies == 1
    assert (other.read(), other.events("miss"), other.events("wait")) == (0, 1, 0)
    process.client.close()


# --- what is too much to keep ---------------------------------------------------------------------


def large(size: int = MOST_BYTES + 1) -> Callable[[], bytes]:
    value = os.urandom(size)
    return lambda: value


def fetch(process: Process, key: str, load: Callable[[], bytes], namespace: str = HOME) -> bytes:
    return process.cache.fetch(namespace, key, tags=["tasks"], load=load)


def test_a_value_that_is_too_large_is_loaded_by_each_and_nobody_waits(
    process: Process, other: Process, valkey: Valkey
) -> None:
    load = large()
    for each in (process, process, other):
        assert fetch(each, "list", load) == load()
    with valkey.client(decode_responses=False) as raw:
        assert raw.hget(NAMES.entry, "v") == TOO_LARGE
        assert raw.exists(NAMES.fill) == 0
    assert (process.events("too_large"), other.events("too_large")) == (2, 1)
    assert (process.events("stored"), process.events("wait"), other.events("wait")) == (0, 0, 0)


def test_a_value_that_has_become_small_enough_is_kept_from_the_change_on(process: Process) -> None:
    fetch(process, "list", large())
    process.cache.invalidate([TASKS])
    for _ in range(2):
        assert fetch(process, "list", lambda: b"small") == b"small"
    assert (process.events("stored"), process.events("hit_l2")) == (1, 1)


def test_a_namespace_holds_no_more_than_its_room_whatever_is_asked_of_it(
    process: Process, valkey: Valkey
) -> None:
    most = cache_calls._ROOM_BYTES
    load = large(MOST_BYTES * 9 // 10)
    for number in range(30):
        assert fetch(process, f"list {number}", load) == load()
    fetch(process, "list", load, namespace="project:2")
    kept = most // (MOST_BYTES * 9 // 10)
    assert (process.events("stored"), process.events("no_room")) == (kept + 1, 30 - kept)
    with valkey.client() as raw:
        found = raw.scan_iter(match=f"*{{{HOME}}}:*", count=1_000)
        assert sum(raw.memory_usage(key, samples=0) or 0 for key in found) < 1.3 * most
