"""The gate: open for as long as a completed look at the outbox is recent."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from app.coordination.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> Gate:
    return Gate(clock=clock)


def test_it_is_shut_before_the_first_look(gate: Gate) -> None:
    assert (gate.is_open, gate.age_s) == (False, None)


def test_a_completed_look_opens_it_for_four_seconds_from_its_beginning(
    gate: Gate, clock: Clock
) -> None:
    clock.now = 103.0
    gate.passed(100.0)
    assert (gate.is_open, gate.age_s) == (True, 3.0)
    clock.now = 104.0
    assert gate.is_open
    clock.now = 104.001
    assert not gate.is_open


def test_a_look_that_took_too_long_does_not_open_it(gate: Gate, clock: Clock) -> None:
    clock.now = 105.0
    gate.passed(100.0)
    assert not gate.is_open


def test_it_is_shut_at_once_where_something_is_not_told(gate: Gate) -> None:
    gate.passed(100.0)
    gate.shut()
    assert (gate.is_open, gate.age_s) == (False, None)


@pytest.mark.parametrize(("began", "is_open"), [(99.0, False), (100.9, False), (101.0, True)])
def test_only_a_look_that_began_a_second_after_the_shutting_opens_it(
    gate: Gate, clock: Clock, began: float, is_open: bool
) -> None:
    gate.shut()
    clock.now = 102.0
    gate.passed(began)
    assert gate.is_open == is_open


def test_a_later_shutting_counts_from_then(gate: Gate, clock: Clock) -> None:
    gate.shut()
    clock.now = 102.0
    gate.passed(101.5)
    gate.shut()
    gate.passed(101.9)
    assert not gate.is_open


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [lambda gate: gate.is_open, lambda gate: gate.age_s == 0])
def test_a_shutting_while_somebody_asks_is_no_error(asked: Callable[[Gate], bool]) -> None:
    """Between the asker's look at the moment and the clock's answer."""
    shut_meanwhile = list[Gate]()

    def clock() -> float:
        while shut_meanwhile:
            shut_meanwhile.pop().shut()
        return 100.0

    gate = Gate(clock=clock)
    gate.passed(100.0)
    shut_meanwhile.append(gate)
    assert asked(gate)  # as it was
    assert (gate.is_open, gate.age_s) == (False, None)


class Meanwhile(float):
    """The moment at which a look began; when it is judged, another thread shuts the gate."""

    gate: Gate
    thread: threading.Thread

    def __ge__(self, other: float) -> bool:
        self.thread = threading.Thread(target=self.gate.shut)
        self.thread.start()
        self.thread.join(0.1)  # not to be awaited: it may have to wait for this one
        return super().__ge__(other)


def test_a_shutting_while_a_look_is_taken_in_leaves_it_shut(gate: Gate) -> None:
    began = Meanwhile(100.0)
    began.gate = gate
    gate.passed(began)
    began.thread.join()
    assert not gate.is_open


# --- whether Redis is lost ------------------------------------------------------------------------


def test_an_unanswered_look_means_that_redis_is_lost_only_where_it_was_there(gate: Gate) -> None:
    gate.unanswered()
    assert not gate.redis_lost
    gate.passed(100.0)
    gate.unanswered()
    assert (gate.is_open, gate.redis_lost) == (True, True)
    gate.passed(100.0)
    assert not gate.redis_lost


def test_a_change_that_is_not_heard_means_that_redis_is_lost_only_where_it_was_there(
    gate: Gate, clock: Clock
) -> None:
    gate.shut()
    assert not gate.redis_lost
    clock.now = 102.0
    gate.passed(102.0)
    gate.shut()
    assert gate.redis_lost
