"""The cache on a real server: what is loaded, when, and what is never served."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.coordination import keys
from app.coordination.absent import NoRedis
from app.coordination.cache import RedisCache
from app.coordination.client import ScriptClient, from_url
from app.coordination.stale import Stale
from app.metrics import Metrics
from tests.support.caches import shared_cache
from tests.support.redis_servers import Valkey

TASKS = Stale(("project:1",), ("tasks",))


class Source:
    """What the cache stands in front of; counts how often it was asked."""

    def __init__(self) -> None:
        self.value, self.loads = 0, 0

    def __call__(self) -> bytes:
        self.loads += 1
        return str(self.value).encode()


def cache_on(url: str) -> RedisCache:
    metrics = Metrics()
    topology, options = from_url(url)
    client = ScriptClient(
        purpose="cache", topology=topology, options=options, timeout_s=0.5, metrics=metrics
    )
    return shared_cache(client, metrics)


@pytest.fixture
def cache(valkey: Valkey) -> RedisCache:
    return cache_on(valkey.url)


@pytest.fixture
def source() -> Source:
    return Source()


def get(cache: RedisCache, source: Source, key: str = "list") -> int:
    return int(cache.fetch("project:1", key, tags=["tasks"], load=source))


def test_a_value_is_loaded_once_and_shared_by_all_processes(valkey: Valkey, source: Source) -> None:
    assert [get(cache_on(valkey.url), source) for _ in range(5)] == [0] * 5
    assert source.loads == 1


def test_an_invalidation_by_one_process_holds_in_every_other(
    valkey: Valkey, source: Source
) -> None:
    reader, writer = cache_on(valkey.url), cache_on(valkey.url)
    get(reader, source)
    source.value = 1
    writer.invalidate([TASKS])
    assert get(reader, source) == 1


def test_without_the_invalidation_the_reader_would_have_been_stale(
    cache: RedisCache, source: Source
) -> None:
    """The control of the test above."""
    get(cache, source)
    source.value = 1
    assert get(cache, source) == 0


def test_a_reader_that_loaded_before_a_write_cannot_store_after_it(
    valkey: Valkey, source: Source
) -> None:
    slow, writer = cache_on(valkey.url), cache_on(valkey.url)

    def load_then_be_overtaken() -> bytes:
        loaded = source()
        source.value = 1
        writer.invalidate([TASKS])
        return loaded

    stale = slow.fetch("project:1", "list", tags=["tasks"], load=load_then_be_overtaken)
    assert stale == b"0"  # it began before the write was acknowledged
    assert get(slow, source) == 1


def test_many_concurrent_misses_load_once(valkey: Valkey, source: Source) -> None:
    caches, gate = [cache_on(valkey.url) for _ in range(4)], threading.Event()
    waiting = threading.Barrier(20)

    def slow_load() -> bytes:
        gate.wait(5)
        return source()

    def ask(number: int) -> bytes:
        waiting.wait()
        return caches[number % 4].fetch("project:1", "list", tags=["tasks"], load=slow_load)

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(ask, number) for number in range(20)]
        gate.set()
        assert [answer.result() for answer in answers] == [b"0"] * 20
    assert source.loads == 1


def test_a_load_that_fails_leaves_the_next_caller_to_load_at_once(
    valkey: Valkey, cache: RedisCache, source: Source
) -> None:
    def broken() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.fetch("project:1", "list", tags=["tasks"], load=broken)
    with valkey.client() as raw:
        assert raw.exists(keys.cache("project:1", "list").fill) == 0
    get(cache, source)
    get(cache, source)
    assert source.loads == 1


def test_a_full_redis_drops_the_namespace_where_it_cannot_move_a_tag(
    valkey: Valkey, source: Source
) -> None:
    writer, reader = cache_on(valkey.url), cache_on(valkey.url)
    get(reader, source)
    with valkey.client() as raw:
        raw.config_set("maxmemory", 1)
        source.value = 1
        writer.invalidate([TASKS])
        assert get(reader, source) == 1
        raw.config_set("maxmemory", 0)
    assert get(reader, source) == 1


def test_a_demoted_redis_is_not_read(valkey: Valkey, cache: RedisCache, source: Source) -> None:
    get(cache, source)
    with valkey.client() as raw:
        raw.replicaof("127.0.0.1", "1")
        source.value = 1
        assert get(cache, source) == 1
        raw.replicaof("NO", "ONE")


def test_restarted_redis_serves_nothing_from_before(valkey: Valkey, source: Source) -> None:
    cache = cache_on(valkey.url)
    get(cache, source)
    with valkey.client() as raw:
        raw.config_set("save", "3600 1")
        raw.save()
    valkey.stop()
    source.value = 1
    cache.invalidate([TASKS])  # nobody there to hear it
    valkey.restart()
    fresh = cache_on(valkey.url)
    assert get(fresh, source) == 1


def test_with_redis_gone_the_process_remembers_for_itself(source: Source) -> None:
    metrics = Metrics()
    cache = shared_cache(NoRedis("cache"), metrics)
    assert [get(cache, source) for _ in range(3)] == [0, 0, 0]
    assert source.loads == 1
    source.value = 1
    cache.invalidate([TASKS])
    assert get(cache, source) == 1


def test_what_another_release_stored_in_its_own_way_is_loaded_anew(
    valkey: Valkey, cache: RedisCache, source: Source
) -> None:
    get(cache, source)
    with valkey.client() as raw:
        raw.hset(keys.cache("project:1", "list").entry, "v", "?unknown")
    source.value = 1
    assert get(cache, source) == 1
