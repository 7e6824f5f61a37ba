"""What a process remembers for itself: not for long, not against its own writes, and not much."""

from __future__ import annotations

import pytest

from app.coordination.memory_cache import MemoryCache
from app.coordination.stale import Stale

TASKS = Stale(("project:1",), ("tasks",))


class Source:
    """What the cache stands in front of; counts how often it was asked."""

    def __init__(self) -> None:
        self.value, self.loads = 0, 0

    def __call__(self) -> bytes:
        self.loads += 1
        return str(self.value).encode()


@pytest.fixture
def source() -> Source:
    return Source()


def get(memory: MemoryCache, source: Source, key: str = "list") -> int:
    return int(memory.fetch("project:1", key, tags=["tasks"], load=source))


def test_what_a_process_remembers_ends_five_seconds_after_the_load_began(source: Source) -> None:
    now = [100.0]
    memory = MemoryCache(clock=lambda: now[0])

    def slow() -> bytes:
        now[0] += 3
        return source()

    memory.fetch("project:1", "list", tags=["tasks"], load=slow)
    now[0] += 1.9
    get(memory, source)
    assert source.loads == 1
    now[0] += 0.2
    get(memory, source)
    assert source.loads == 2


def test_a_load_begun_before_a_write_of_ones_own_is_not_remembered(source: Source) -> None:
    memory = MemoryCache()

    def overtaken() -> bytes:
        loaded = source()
        source.value = 1
        memory.invalidate([TASKS])
        return loaded

    memory.fetch("project:1", "list", tags=["tasks"], load=overtaken)
    assert get(memory, source) == 1


def test_a_forgotten_write_still_judges_the_loads_that_were_under_way(source: Source) -> None:
    memory = MemoryCache(most=2)

    def overtaken() -> bytes:
        loaded = source()
        source.value = 1
        for namespace in ("project:1", "project:2", "project:3"):
            memory.invalidate([Stale((namespace,), ("tasks",))])
        return loaded

    memory.fetch("project:1", "list", tags=["tasks"], load=overtaken)
    assert get(memory, source) == 1


def test_what_a_process_remembers_is_bounded(source: Source) -> None:
    memory = MemoryCache(most=3)
    for key in "abcd":
        get(memory, source, key)
    get(memory, source, "d")
    assert source.loads == 4
    get(memory, source, "a")
    assert source.loads == 5


# --- bytes ----------------------------------------------------------------------------------------


def keep(memory: MemoryCache, key: str, size: int) -> bool:
    """Whether something of that size is kept once it was loaded."""
    loads: list[None] = []

    def load() -> bytes:
        loads.append(None)
        return bytes(size)

    for _ in range(2):
        memory.fetch("project:1", key, tags=["tasks"], load=load)
    return len(loads) == 1


def test_what_a_process_remembers_is_bounded_in_bytes(source: Source) -> None:
    memory = MemoryCache(most_bytes=100_000)
    get(memory, source)
    for number in range(50):
        assert keep(memory, str(number), 10_000)
        assert memory.bytes <= 100_000
    get(memory, source)
    assert source.loads == 2


def test_keys_are_bytes_too() -> None:
    memory = MemoryCache(most_bytes=100_000)
    for number in range(50):
        assert keep(memory, str(number).zfill(10_000), 1)
    assert 90_000 < memory.bytes <= 100_000


def test_what_is_larger_than_all_of_it_is_not_remembered_and_pushes_nothing_out(
    source: Source,
) -> None:
    memory = MemoryCache(most_bytes=10_000)
    get(memory, source)
    assert not keep(memory, "large", 10_000)
    get(memory, source)
    assert source.loads == 1


@pytest.mark.parametrize("by", ["a load", "a write"])
def test_what_has_expired_is_dropped_by_whatever_comes_next(by: str, source: Source) -> None:
    now = [100.0]
    memory = MemoryCache(clock=lambda: now[0])
    for number in range(50):
        keep(memory, str(number), 10_000)
    assert memory.bytes > 500_000
    now[0] += 5
    if by == "a load":
        get(memory, source)
    else:
        memory.drop(["project:2"])
    assert memory.bytes < 1_000


def test_a_value_that_is_loaded_again_is_counted_once() -> None:
    now = [100.0]
    memory = MemoryCache(clock=lambda: now[0])
    counted = set()
    for _ in range(5):
        keep(memory, "list", 10_000)
        counted.add(memory.bytes)
        memory.drop(["project:1"])
        now[0] += 1
    assert len(counted) == 1
