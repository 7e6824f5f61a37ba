"""One call makes many namespaces stale: each of them, in few exchanges, and none is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import pytest
from structlog.testing import capture_logs

from app.coordination.cache_calls import CacheCalls
from app.coordination.client import ScriptClient, from_url
from app.coordination.scripts import Call
from app.coordination.stale import Stale
from app.metrics import Metrics
from tests.support.caches import SCRIPTS, shared_cache
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey

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
        self.cache = shared_cache(client, self.metrics)

    def read(self, namespaces: Iterable[str] = MANY) -> list[int]:
        def load() -> bytes:
            return str(self.value).encode()

        read = partial(self.cache.fetch, key="list", tags=["tasks"], load=load)
        return [int(read(each)) for each in namespaces]

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
        writer.cache.invalidate([Stale(tuple(MANY[:count]), ("tasks",))])
        calls = raw.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    assert (writer.exchanges(), calls) == (exchanges, count)
    assert writer.events("invalidation") == count
    # The others are the control: what was not invalidated is answered as it was.
    assert reader.read() == [1] * count + [0] * (len(MANY) - count)


def test_only_the_tags_that_moved_are_stale(valkey: Valkey, reader: Process) -> None:
    Process(valkey.url).cache.invalidate([Stale(tuple(MANY), ("people",))])
    assert reader.read() == [0] * len(MANY)


def test_with_redis_away_the_change_is_not_heard(valkey_proxy: Proxy, reader: Process) -> None:
    writer = Process(valkey_proxy.url)
    valkey_proxy.cut()
    change = Stale(tuple(MANY), ("tasks",))
    with capture_logs() as logs:
        assert writer.cache.invalidate([change]) == {change: None}
    assert writer.events("invalidation_lost") == len(MANY)
    assert [log["event"] for log in logs] == ["cache.invalidation_lost"] * len(MANY)
    assert reader.read() == [0] * len(MANY)  # nobody has told it


def test_one_namespace_that_is_refused_leaves_its_change_unheard_and_the_others_told(
    valkey: Valkey, reader: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, broken = Process(valkey.url), MANY[30]
    changes = [Stale((each,), ("tasks",)) for each in MANY]
    calls = writer.cache._calls

    def planted(namespace: str, tags: Sequence[str]) -> Call:
        """For one of them a script that lacks its arguments."""
        call = CacheCalls.invalidate(calls, namespace, tags)
        return call._replace(args=[]) if namespace == broken else call

    monkeypatch.setattr(calls, "invalidate", planted)
    heard = writer.cache.invalidate(changes)
    assert [change for change, history in heard.items() if history is None] == [changes[30]]
    assert reader.read() == [each is not broken for each in MANY]
