"""The clock by which what was looked at grows old: it counts while the machine sleeps."""

from __future__ import annotations

import time

import pytest

from app.coordination import clocks
from app.coordination.clocks import since_boot
from app.coordination.gate import Gate
from app.coordination.memory_cache import MemoryCache

SLEEPS_S = 60.0


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long the machine has slept: no test can send it to sleep."""
    slept, boot = [0.0], getattr(time, "CLOCK_BOOTTIME", None)
    if boot is None:
        pytest.skip("this platform does not count it")
    read = time.clock_gettime

    def gettime(clock: int) -> float:
        return read(clock) + (slept[0] if clock == boot else 0.0)

    monkeypatch.setattr(time, "clock_gettime", gettime)
    return slept


@pytest.mark.parametrize(("slept", "is_open"), [(0.0, True), (SLEEPS_S, False)])
def test_a_machine_that_wakes_does_not_believe_its_last_look(
    asleep: list[float], slept: float, is_open: bool
) -> None:
    """Not having slept is the control."""
    gate = Gate()
    gate.passed(since_boot())
    asleep[0] = slept
    assert gate.is_open is is_open


def test_what_it_had_loaded_before_is_loaded_again(asleep: list[float]) -> None:
    cache, loads = MemoryCache(), iter([b"before", b"after"])

    def fetch() -> bytes:
        return cache.fetch("project:1", "list", tags=["lists"], load=lambda: next(loads))

    assert [fetch(), fetch()] == [b"before"] * 2
    asleep[0] = SLEEPS_S
    assert fetch() == b"after"


def test_where_the_platform_does_not_count_it_the_monotonic_clock_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clocks, "_SINCE_BOOT", None)
    before = time.monotonic()
    assert before <= since_boot() <= time.monotonic()
