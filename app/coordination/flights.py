"""Loads under way in one process, and the threads that share what comes of them.

A flight goes by a place: what is loaded, and what its first thread was told had moved until then.
Whoever was told the same may have its value, whenever it came: nothing that the value shows has
moved between the one's answer and the other's. So threads of one place load once, however slow the
load is, and have its error too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import NamedTuple

from app.coordination import forks

_FOLLOWED_S = 30.0


class Flight:
    """One load, or the wait for another process's. `is_loading`: a thread of this one is at it."""

    __slots__ = ("ended", "error", "is_loading", "place", "value")

    def __init__(self, place: Hashable) -> None:
        self.place, self.is_loading = place, False
        self.ended = threading.Event()
        self.value: bytes | None = None
        self.error: Exception | None = None

    def outcome(self) -> bytes | None:
        """The value, for a thread that followed; None where there came nothing that it could have.

        Raises:
            Exception: what the load raised.
        """
        if self.ended.wait(_FOLLOWED_S) and self.error is not None:
            raise self.error
        return self.value


class Boarded(NamedTuple):
    """`first`: nobody else was at it."""

    flight: Flight
    first: bool


class Flights:
    """All of a process."""

    def __init__(self) -> None:
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """None: the parent's threads are not there to end them."""
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, Flight] = {}

    def board(self, place: Hashable) -> Boarded:
        """The flight of a place, begun where there is none. The first must `fly` it."""
        with self._lock:
            flight = self._under_way.get(place)
            if flight is not None:
                return Boarded(flight, first=False)
            self._under_way[place] = flight = Flight(place)
            return Boarded(flight, first=True)

    def claim(self, flight: Flight) -> bool:
        """Whether this thread shall load: no other does. Who may, must `fly` it."""
        with self._lock:
            claimed = not flight.is_loading and not flight.ended.is_set()
            flight.is_loading = flight.is_loading or claimed
            return claimed

    def fly(self, flight: Flight, work: Callable[[], bytes]) -> bytes:
        """Do the work, for all who follow it."""
        try:
            value = work()
        except Exception as error:
            self._land(flight, None, error)
            raise
        except BaseException:  # this thread's end, and nobody else's
            self._land(flight, None, None)
            raise
        self._land(flight, value, None)
        return value

    def _land(self, flight: Flight, value: bytes | None, error: Exception | None) -> None:
        with self._lock:
            if self._under_way.get(flight.place) is flight:
                del self._under_way[flight.place]
            if not flight.ended.is_set():
                flight.value, flight.error = value, error
                flight.ended.set()
