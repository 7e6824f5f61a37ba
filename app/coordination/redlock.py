"""Leases kept by a majority of N independent servers: they survive a minority that is lost.

Source: the Redlock algorithm of the Redis manual ("Distributed Locks with Redis"): ask all, count
those that grant, and take from the time to live what the asking took and what clocks may drift.
What it cannot give is a fence: no server sees every acquisition, so numbers minted by quorums can
fall. Where two writers at once would do harm, let the database judge, as the scheduled runs do.

No token asks twice. What a majority does not confirm is given back wherever it may have come about,
server by server and in the background where that is not heard: it would give away a lease held
since before, and a release that comes late would take a vote from the next try.

A server that restarts empty forgets its leases, and may then grant one that a majority still
counts on: keep it down for longer than the longest lease, or let it write every change to disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from app.coordination import failures, forks
from app.coordination.lock_store import Granted, LockStore, Taken
from app.errors import CoordinationError

T = TypeVar("T")
Said = Granted | Taken | CoordinationError

_DRIFT, _DRIFT_MS = 0.01, 2
_AT_ONCE = 4  # acquisitions of one process that ask all servers at the same time


class Redlock:
    """A store of leases over several others.

    Args:
        stores: one for each server, which share nothing. All are asked at the same time, so that
            hung ones cost their time-out once; the breakers of their clients spare even that.
    """

    repeatable = False

    def __init__(self, stores: Sequence[LockStore]) -> None:
        self._stores, self._quorum = stores, len(stores) // 2 + 1
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With no thread: they start with the first call, so that none exists before a fork."""
        size = _AT_ONCE * len(self._stores)
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="redlock")

    def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:  # noqa: ARG002  nobody is woken
        asked = time.monotonic()
        said = self._all(lambda store: store.take(name, token, ttl_ms=ttl_ms, wait_ms=0))
        grants = sum(isinstance(each, Granted) for each in said)
        until = asked + _validity_ms(ttl_ms) / 1000
        if grants >= self._quorum and time.monotonic() < until:
            return Granted(None, until)
        self._give_back(name, token, ttl_ms, said)
        self._check_answers(said)
        return Taken(min((each.left_ms for each in said if isinstance(each, Taken)), default=0))

    def extend(self, name: str, token: str, *, ttl_ms: int) -> float | None:
        asked = time.monotonic()
        said = self._all(lambda store: store.extend(name, token, ttl_ms=ttl_ms))
        renewed = sum(isinstance(each, float) for each in said)
        until = asked + _validity_ms(ttl_ms) / 1000
        if renewed >= self._quorum and time.monotonic() < until:
            return until
        errors = [each for each in said if isinstance(each, CoordinationError)]
        if errors and renewed + len(errors) >= self._quorum:
            raise errors[0]  # with those who gave no answer it may be a majority
        return None

    def release(self, name: str, token: str, *, owed_ms: int = 0, may_come: bool = False) -> bool:
        said = self._all(
            lambda store: store.release(name, token, owed_ms=owed_ms, may_come=may_come)
        )
        self._check_answers(said)
        return sum(each is True for each in said) >= self._quorum

    def wait(self, name: str, seconds: float) -> bool:  # noqa: ARG002  the protocol's parameters
        """A majority has no one place to be woken from: callers back off with jitter."""
        return False

    def _give_back(self, name: str, token: str, ttl_ms: int, said: Sequence[Said]) -> None:
        """Where the token got a vote, or may have, or may yet: nobody would ever use it."""

        def release(store: LockStore, answer: Said) -> bool:
            may_come = not isinstance(answer, Granted)
            return store.release(name, token, owed_ms=ttl_ms, may_come=may_come)

        answers = zip(self._stores, said, strict=True)
        owing = [(partial(release, answer=each), store) for store, each in answers if _owes(each)]
        list(self._pool.map(lambda owed: _answer(*owed), owing))

    def _all(self, ask: Callable[[LockStore], T]) -> list[T | CoordinationError]:
        return list(self._pool.map(lambda store: _answer(ask, store), self._stores))

    def _check_answers(self, said: Sequence[object]) -> None:
        """Raises the first error where fewer than a majority answered."""
        errors = [each for each in said if isinstance(each, CoordinationError)]
        if len(self._stores) - len(errors) < self._quorum:
            # One that may have run is the news: whoever sees it gives the token back.
            raise next(filter(failures.may_have_run, errors), errors[0])


def _owes(answer: Said) -> bool:
    """Whether whoever answered so may keep a lease for the token that asked."""
    if isinstance(answer, CoordinationError):
        return failures.may_have_run(answer)
    return isinstance(answer, Granted)


def _answer(ask: Callable[[LockStore], T], store: LockStore) -> T | CoordinationError:
    try:
        return ask(store)
    except CoordinationError as error:
        return error


def _validity_ms(ttl_ms: int) -> float:
    """What is left for sure, counted from before the asking: clocks may run apart by 1%."""
    return ttl_ms - (_DRIFT * ttl_ms + _DRIFT_MS)
