"""The breaker, under a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from app.coordination.breaker import Breaker, State


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, window_s=10, calls=10, open_s=1, clock=clock)


def state_of(breaker: Breaker) -> State:
    return breaker.state


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.admits()
        breaker.failed()


def test_it_opens_after_as_many_failures_as_it_was_told(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert state_of(breaker) is State.CLOSED
    fail(breaker)
    assert state_of(breaker) is State.OPEN
    assert not breaker.admits()


def test_failures_among_many_answers_do_not_open_it(breaker: Breaker) -> None:
    for _ in range(7):
        breaker.succeeded()
    fail(breaker, 3)
    assert state_of(breaker) is State.CLOSED


def test_failures_that_left_the_window_do_not_count(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now += 10.1
    fail(breaker)
    assert state_of(breaker) is State.CLOSED


def test_half_open_admits_exactly_one_of_many_threads(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    together, admitted = threading.Barrier(20), []

    def ask() -> None:
        together.wait()
        admitted.append(breaker.admits())

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == 1


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    assert breaker.admits()
    breaker.succeeded()
    assert state_of(breaker) is State.CLOSED
    fail(breaker, 2)
    assert state_of(breaker) is State.CLOSED


def test_a_probe_that_fails_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    fail(breaker)
    assert state_of(breaker) is State.OPEN
    assert not breaker.admits()
    clock.now += 1.1
    assert breaker.admits()


def test_a_probe_that_never_reports_is_replaced(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    assert breaker.admits()
    assert not breaker.admits()
    clock.now += 1.1
    assert breaker.admits()


def test_a_probe_that_never_reached_the_server_leaves_its_place(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    assert breaker.admits()
    breaker.abstained()
    assert breaker.admits()


def test_the_report_of_a_call_from_before_decides_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1.1
    assert breaker.admits()
    for report in (breaker.succeeded, breaker.failed, breaker.abstained):
        late = threading.Thread(target=report)
        late.start()
        late.join()
        assert state_of(breaker) is State.HALF_OPEN
        assert not breaker.admits()


def test_each_change_of_state_is_told_once(clock: Clock) -> None:
    told: list[State] = []
    breaker = Breaker(failures=2, open_s=1, clock=clock, on_change=told.append)
    fail(breaker, 2)
    clock.now += 1.1
    assert breaker.admits()
    breaker.succeeded()
    assert told == [State.OPEN, State.HALF_OPEN, State.CLOSED]
