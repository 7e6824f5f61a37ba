"""Flights: one thread works, and what comes of it is all the others'."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.coordination.flights import Flights


@pytest.fixture
def flights() -> Flights:
    return Flights()


def fails() -> bytes:
    raise ZeroDivisionError


def test_the_first_of_a_place_is_told_so_and_the_others_are_told_of_its_flight(
    flights: Flights,
) -> None:
    flight, first = flights.board("a")
    assert first
    assert flights.board("a") == (flight, False)
    assert flights.board("b").first


def test_the_value_is_for_those_who_boarded_before_it_was_there_and_no_later_one(
    flights: Flights,
) -> None:
    flight, _ = flights.board("a")
    follower, _ = flights.board("a")
    assert flights.fly(flight, lambda: b"") == b""
    assert follower.outcome() == b""
    assert flights.board("a").first


def test_the_error_is_theirs_too(flights: Flights) -> None:
    flight, _ = flights.board("a")
    with pytest.raises(ZeroDivisionError):
        flights.fly(flight, fails)
    with pytest.raises(ZeroDivisionError):
        flight.outcome()
    assert flights.board("a").first


def test_the_end_of_a_thread_is_its_own(flights: Flights) -> None:
    def ends() -> bytes:
        raise SystemExit

    flight, _ = flights.board("a")
    with pytest.raises(SystemExit):
        flights.fly(flight, ends)
    assert flight.outcome() is None


def test_one_thread_of_many_may_load(flights: Flights) -> None:
    flight, _ = flights.board("a")
    with ThreadPoolExecutor(20) as pool:
        claims = list(pool.map(lambda _: flights.claim(flight), range(20)))
    assert sum(claims) == 1


def test_nobody_loads_for_a_flight_that_has_ended(flights: Flights) -> None:
    flight, _ = flights.board("a")
    flights.fly(flight, lambda: b"1")
    assert not flights.claim(flight)


def test_a_flight_that_ends_late_takes_no_other_of_its_place_with_it(flights: Flights) -> None:
    """Who waits, and who loads meanwhile, both fly it: the first to end it counts."""
    flight, _ = flights.board("a")

    def overtaken() -> bytes:
        flights.fly(flight, lambda: b"1")
        assert flights.board("a").first
        return b"2"

    assert flights.fly(flight, overtaken) == b"2"
    assert flight.outcome() == b"1"
    assert not flights.board("a").first


def test_a_forked_child_follows_no_thread_of_its_parent(flights: Flights) -> None:
    flights.board("a")
    flights.begin_afresh()
    assert flights.board("a").first
