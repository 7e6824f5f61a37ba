"""The gate: open for as long as a completed look at the outbox is recent."""

from __future__ import annotations

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
