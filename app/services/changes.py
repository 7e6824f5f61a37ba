"""Changes and what they make stale: one transaction, then the caches, then the answer."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.coordination import forks
from app.coordination.gate import Gate
from app.coordination.stale import History, Stale
from app.db import invalidations
from app.db.engine import Database
from app.errors import TaskFlowError
from app.services.ports import Cache

T = TypeVar("T")

# Where notes wait for the commit of the unit that this thread's changes are part of.
_waiting: ContextVar[list[Note] | None] = ContextVar("waiting", default=None)


class Note(NamedTuple):
    """A change's record in the outbox."""

    id: UUID
    stale: Stale


class Revealing(Exception):
    """Ends a unit with `answer`, which shows a change whose own answer may have been lost.

    `Changes.commit` tells the caches what that change made stale before it raises `answer`: none of
    them may contradict it.
    """

    def __init__(self, answer: TaskFlowError, stale: Stale) -> None:
        super().__init__(answer)
        self.answer, self.stale = answer, stale


class Changes:
    """Commits changes together with the record of what they make stale, and tells the caches.

    What Redis does not hear stays in the outbox for every process's `Relay`; until this process's
    own has found it told, this process believes nothing that is cached.
    """

    def __init__(self, db: Database, cache: Cache, gate: Gate) -> None:
        self._db, self._cache, self._gate = db, cache, gate
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With nothing told or left to tell: that is the parent's, and it is in the outbox."""
        self._lock = threading.Lock()
        self._told: list[tuple[UUID, History]] = []

    def commit(self, unit: Callable[[Session], T], stale: Callable[[T], Stale | None]) -> T:
        """Run `unit` in a transaction (again, where `Database.retrying` does), and tell the caches.

        Args:
            stale: what its result makes stale; None for nothing.

        Raises:
            DatabaseUnavailable: as `Database.retrying`. If it was committed after all, a relay
                finds the record.
            TaskFlowError: the answer of a `Revealing` that `unit` raised.
        """

        def recorded(session: Session) -> tuple[T, Note | None]:
            result = unit(session)
            change = stale(result)
            return result, None if change is None else self.record(session, change)

        try:
            result, note = self._db.retrying(recorded)
        except Revealing as revealing:
            if _waiting.get() is not None:
                raise  # to `joined`, whose rows are still locked
            raise self._revealed(revealing) from None
        if note is not None:
            waiting = _waiting.get()
            if waiting is None:
                self.tell([note])
            else:
                waiting.append(note)
        return result

    def joined(self, unit: Callable[[Session, Sequence[Note]], T]) -> T:
        """Run `unit` in one transaction that every change made within it is part of.

        Args:
            unit: gets the transaction's session, and the notes of what it made stale so far; it may
                run up to 4 times, as in `Database.retrying`. The caches are told after the commit.

        Raises:
            DatabaseUnavailable: as `Database.retrying`.
        """

        def whole(session: Session) -> tuple[T, list[Note]]:
            notes: list[Note] = []
            token = _waiting.set(notes)
            try:
                with self._db.joined(session):
                    return unit(session, notes), notes
            finally:
                _waiting.reset(token)

        try:
            result, notes = self._db.retrying(whole)
        except Revealing as revealing:
            raise self._revealed(revealing) from None
        if notes:
            self.tell(notes)
        return result

    def record(self, session: Session, stale: Stale) -> Note | None:
        """Write down, in the caller's transaction, what it makes stale; `tell` after its commit."""
        if not stale.namespaces:
            return None
        if not self._cache.records:
            return Note(UUID(int=0), stale)
        return Note(invalidations.record(session, stale.namespaces, stale.tags), stale)

    def tell(self, notes: Sequence[Note]) -> None:
        """Tell the caches what these changes made stale. Never raises."""
        heard = invalidate(self._cache, notes)
        with self._lock:
            for note, history in heard:
                if history is None:
                    self._gate.shut()
                elif note.id.int:
                    self._told.append((note.id, history))

    def take_told(self) -> list[tuple[UUID, History]]:
        """What was heard since, and by which history of writes; for the outbox."""
        with self._lock:
            taken, self._told = self._told, []
            return taken

    def give_back_told(self, told: Sequence[tuple[UUID, History]]) -> None:
        with self._lock:
            self._told[:0] = told

    def _revealed(self, revealing: Revealing) -> TaskFlowError:
        """Its answer, once the unit has ended: nobody's row stays locked while Redis is told."""
        self.reveal(revealing.stale)
        return revealing.answer

    def reveal(self, stale: Stale) -> None:
        """Tell the caches before an answer that shows a change whose own may have been lost."""
        if None in self._cache.invalidate([stale]).values():
            self._gate.shut()


def invalidate(cache: Cache, notes: Sequence[Note]) -> list[tuple[Note, History | None]]:
    """Tell `cache`, and say of each note which history of writes has it, None for none.

    Notes of the same tags are told as one: a sweep's batches name the same projects over and over.
    """
    together = _together(notes)
    heard = cache.invalidate([change for change, _ in together])
    return [(note, heard[change]) for change, own in together for note in own]


def _together(notes: Sequence[Note]) -> list[tuple[Stale, list[Note]]]:
    """One change for all that make the same tags stale, each namespace once."""
    by_tags = defaultdict[tuple[str, ...], list[Note]](list)
    for note in notes:
        by_tags[note.stale.tags].append(note)
    return [
        (Stale(tuple(dict.fromkeys(ns for note in own for ns in note.stale.namespaces)), tags), own)
        for tags, own in by_tags.items()
    ]
