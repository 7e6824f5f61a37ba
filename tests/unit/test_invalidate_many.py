"""One call makes many namespaces stale: each of them, in few exchanges, and none is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.coordination import keys
from app.coordination.cache import MemoryCache, RedisCache
from app.coordination.client import ScriptClient, from_url
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

SCRIPTS = ScriptRegistry.from_folder()
MANY = [f"project:{number}" for number in range(250)]


class Process:
    """One process's cache, before a source that answers with its own `value`."""

    def __init__(self, url: str) -> None:
        self.metrics, self.value = Metrics(), 0
        topology, options = from_url(url)
        client = ScriptClient(
            purpose="cache",
            topology=topology,
            options=options,
            timeout_s=5,
            metrics=self.metrics,
        )
        self.cache = RedisCache(
            client, SCRIPTS, self.metrics, ttl_ms=60_000, fallback=MemoryCache()
        )

    def read(self, namespaces: Iterable[str] = MANY) -> list[int]:
        def load() -> Any:
            return self.value

        return [self.cache.fetch(each, "list", tags=["tasks"], load=load) for each in namespaces]

    def events(self, event: str) -> float:
        return self._sample("cache_events_total", event=event)

    def exchanges(self) -> float:
        return self._sample("redis_call_seconds_count", purpose="cache")

    def _sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"taskflow_{name}", labels) or 0.0


@pytest.fixture
def reader(valkey: Valkey) -> Process:
    """A process whose cache has every namespace, with the value 0; it would load a 1."""
    reader = Process(valkey.url)
    assert reader.read() == [0] * len(MANY)
    reader.value = 1
    return reader


@pytest.mark.parametrize(
    ("count", "exchanges"), [(0, 0), (1, 1), (100, 1), (101, 2), (200, 2), (250, 3)]
)
def test_namespaces_are_told_a_hundred_at_a_time_and_each_is_stale(
    valkey: Valkey, reader: Process, count: int, exchanges: int
) -> None:
    writer = Process(valkey.url)
    with valkey.client() as raw:
        for script in SCRIPTS.values():  # so that none is sent twice, as an unknown one is
            raw.script_load(script.source)
        raw.config_resetstat()
        writer.cache.invalidate_many(MANY[:count], ["tasks"])
        calls = raw.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    assert (writer.exchanges(), calls) == (exchanges, count)
    assert writer.events("invalidation") == count
    # The others are the control: what was not invalidated is answered as it was.
    assert reader.read() == [1] * count + [0] * (len(MANY) - count)


def test_only_the_tags_that_moved_are_stale(valkey: Valkey, reader: Process) -> None:
    Process(valkey.url).cache.invalidate_many(MANY, ["people"])
    assert reader.read() == [0] * len(MANY)


def test_with_redis_away_every_namespace_is_owed_and_told_once_it_is_back(
    valkey_proxy: Proxy, reader: Process
) -> None:
    writer = Process(valkey_proxy.url)
    valkey_proxy.cut()
    with capture_logs() as logs:
        writer.cache.invalidate_many(MANY, ["tasks"])
    assert writer.events("invalidation_owed") == len(MANY)
    assert [log["event"] for log in logs] == ["cache.invalidation_owed"] * len(MANY)
    assert reader.read() == [0] * len(MANY)  # nobody has told it
    valkey_proxy.restore()
    eventually(lambda: not writer.cache.owes, what="the payment")
    assert writer.events("invalidation") == len(MANY)
    assert reader.read() == [1] * len(MANY)


def test_a_process_that_owes_answers_with_nothing_that_its_write_replaced(
    valkey_proxy: Proxy, reader: Process
) -> None:
    writer = Process(valkey_proxy.url)
    writer.value = 1
    assert writer.read() == [0] * len(MANY)  # as cached
    valkey_proxy.cut()
    writer.cache.invalidate_many(MANY, ["tasks"])
    assert writer.read() == [1] * len(MANY)
    valkey_proxy.restore()
    assert writer.read() == [1] * len(MANY)
    eventually(lambda: not writer.cache.owes, what="the payment")
    assert reader.read() == [1] * len(MANY)


def test_a_hundred_whose_reply_was_lost_are_told_again(
    valkey_proxy: Proxy, reader: Process
) -> None:
    writer = Process(valkey_proxy.url)
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    writer.cache.invalidate_many(MANY, ["tasks"])
    assert writer.events("invalidation_owed") == 100
    assert writer.events("invalidation") == len(MANY) - 100
    eventually(lambda: not writer.cache.owes, what="the payment")
    assert writer.events("invalidation") == len(MANY)
    assert reader.read() == [1] * len(MANY)


def test_a_namespace_that_is_refused_keeps_none_of_its_neighbours_waiting(
    valkey: Valkey, reader: Process
) -> None:
    writer, broken = Process(valkey.url), MANY[30]
    with valkey.client() as raw:
        meta = keys.cache(broken, "").meta
        raw.rename(meta, f"{meta}:away")
        raw.set(meta, "not a hash")
        writer.cache.invalidate_many(MANY, ["tasks"])
        assert writer.events("invalidation_owed") == 1
        assert writer.events("invalidation") == len(MANY) - 1
        raw.rename(f"{meta}:away", meta)
    eventually(lambda: not writer.cache.owes, what="the payment")
    assert reader.read() == [1] * len(MANY)
