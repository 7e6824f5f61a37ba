"""What is cached, as operators see it: on one server and on a cluster, whatever the names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.coordination.cache import RedisCache
from app.coordination.cache_inspection import CacheInspection
from app.coordination.stale import Stale
from app.errors import RedisUnavailable
from app.metrics import Metrics
from tests.support.caches import SCRIPTS, shared_cache, visiting
from tests.support.rate_place import Place
from tests.support.redis_servers import Valkey, ValkeyCluster

STRANGE = ["project:*", "project:[1]", "a{b}c", "}:entry:", "per % cent", "späße", "x" * 500, ""]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(params=["valkey", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    where = request.getfixturevalue(request.param)
    where.reset()
    with Place.on(where) as place:
        yield place


@pytest.fixture
def inspection(place: Place) -> CacheInspection:
    return CacheInspection(place.client(), SCRIPTS, ttl_s=30)


@pytest.fixture
def cache(place: Place) -> RedisCache:
    return shared_cache(place.client(), Metrics())


def fill(cache: RedisCache, namespace: str, key: str, value: bytes = b"v", tag: str = "t") -> bytes:
    return cache.fetch(namespace, key, tags=[tag], load=lambda: value)


def test_each_namespace_is_told_with_what_is_in_it(
    cache: RedisCache, inspection: CacheInspection
) -> None:
    for key, tag in (("a", "t"), ("b", "t"), ("c", "u")):
        fill(cache, "project:1", key, b"12345", tag)
    fill(cache, "project:2", "a")
    cache.invalidate([Stale(("project:1", "project:3"), ("u",))])
    cache.history()  # leaves nothing
    views = [view.as_dict() for view in inspection.namespaces()]
    epochs = [view.pop("epoch") for view in views]
    assert len(set(epochs)) == 3
    assert None not in epochs
    keys = ("namespace", "entries", "valid", "bytes", "clock", "floor", "tags")
    assert [tuple(view[key] for key in keys) for view in views] == [
        ("project:1", 3, 2, 18, 1, 0, 1),
        ("project:2", 1, 1, 2, 0, 0, 0),
        ("project:3", 0, 0, 0, 1, 0, 1),
    ]
    assert [view.valid for view in inspection.entries("project:1")] == [True, True, False]
    found = inspection.namespace("project:1")
    assert found == inspection.namespaces()[0]
    assert inspection.namespace("project:9") is None


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_is_told_as_it_is_and_no_other_is_taken_for_it(
    cache: RedisCache, inspection: CacheInspection, name: str
) -> None:
    for other in ("project:1", "abc", "x" * 499):
        fill(cache, other, "other")
    fill(cache, name, name, b"mine")
    told = name if len(name) < 200 else inspection.entries(name)[0].key
    assert [entry.key for entry in inspection.entries(name)] == [told]
    assert told in [view.namespace for view in inspection.namespaces()]
    entry = inspection.entry(name, name)
    assert entry
    assert (entry.key, entry.value, entry.tags) == (told, b"mine", ("t",))
    assert inspection.entry(name, "nothing") is None


def test_more_entries_than_one_call_takes_are_all_told(
    cache: RedisCache, inspection: CacheInspection
) -> None:
    for number in range(1_001):
        fill(cache, "project:1", f"{number:04}")
    (view,) = inspection.namespaces()
    assert (view.entries, view.valid, view.bytes) == (1_001, 1_001, 2_002)
    assert [entry.key for entry in inspection.entries("project:1")] == [
        f"{number:04}" for number in range(1_001)
    ]


def test_a_large_value_is_shown_as_it_was_before_it_was_packed(
    cache: RedisCache, inspection: CacheInspection
) -> None:
    fill(cache, "project:1", "a", b"x" * 100_000)
    entry = inspection.entry("project:1", "a")
    assert entry
    assert entry.value == b"x" * 100_000
    assert entry.bytes < 10_000


def test_a_tag_made_stale_is_a_miss_for_a_process_that_held_the_value(
    cache: RedisCache, inspection: CacheInspection
) -> None:
    for key, tag in (("a", "t"), ("b", "t"), ("c", "u")):
        fill(cache, "project:1", key, b"old", tag)
    assert inspection.invalidate("project:1", ["none"]) == 0
    assert inspection.invalidate("project:1", ["t"]) == 2
    assert inspection.invalidate("project:1", ["t", "u"]) == 1
    assert [fill(cache, "project:1", key, b"new") for key in "abc"] == [b"new"] * 3


def test_everything_made_stale_is_a_miss_in_every_process_that_held_it(
    cache: RedisCache, inspection: CacheInspection
) -> None:
    names = [f"project:{number}" for number in range(120)]

    def request(value: bytes) -> set[bytes]:
        visit = cache.local.visit(names)
        cache.ask(visit)
        with visiting(visit):
            return {fill(cache, name, "a", value) for name in names}

    assert [request(b"old"), request(b"not loaded")] == [{b"old"}] * 2
    held = len(cache.local)
    assert held == 120  # the control: the second request was answered out of the process
    assert inspection.invalidate_all() == 120
    assert request(b"new") == {b"new"}
    assert [inspection.invalidate_all() for _ in range(2)] == [120, 0]


def test_without_an_answer_every_look_says_so(valkey: Valkey) -> None:
    with Place.on(valkey) as place:
        inspection = CacheInspection(place.client(), SCRIPTS, ttl_s=30)
        valkey.kill()
        for look in (
            inspection.namespaces,
            lambda: inspection.entries("project:1"),
            lambda: inspection.entry("project:1", "a"),
            lambda: inspection.invalidate("project:1", ["t"]),
            inspection.invalidate_all,
        ):
            with pytest.raises(RedisUnavailable):
                look()
        valkey.restart()
