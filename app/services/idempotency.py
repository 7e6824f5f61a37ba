"""A request with a key is done once, however often it is sent, and answered the same each time.

Key, work and answer are one transaction: a process that dies before its commit leaves nothing, and
after it everything. Whoever comes meanwhile waits for that transaction. What is refused (any error)
is undone with its key: the same request may succeed later.

So a handler makes its answer out of what its unit of work returned, and nothing that it does
outside of the database may matter if the transaction is undone and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.coordination.stale import Stale
from app.db import idempotency
from app.db.engine import Database
from app.db.idempotency import Asked, Kept
from app.errors import FieldError, InvalidInput
from app.services.changes import Changes, Note

FIELD = "Idempotency-Key"


class Answer(NamedTuple):
    """What an answer is repeated with, byte for byte."""

    status: int
    body: bytes
    location: str | None
    etag: str | None


class Idempotency:
    """Does what is asked for, or finds what was answered when it was done."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def once(self, asked: Asked, perform: Callable[[], Answer]) -> Answer | None:
        """The first answer to what is asked, or None where `perform` has just made it.

        Args:
            perform: does it, by services whose changes join one transaction; anything that it
                raises undoes them and frees the key. It may be called up to 4 times.

        Raises:
            InvalidInput: the key was used for another request.
            LockBusy: the first request with the key has been running for 2 s longer.
        """

        def unit(session: Session, notes: Sequence[Note]) -> Kept | None:
            idempotency.forget_old(session)
            kept = idempotency.claim(session, asked)
            if kept is None:
                answer = perform()
                idempotency.keep(session, asked, _kept(asked, answer, notes))
            return kept

        kept = self._changes.joined(unit)
        return None if kept is None else self._again(asked, kept)

    def _again(self, asked: Asked, kept: Kept) -> Answer:
        if kept.fingerprint != asked.fingerprint:
            reason = "was used for another request; take a new key for a new request"
            raise InvalidInput("The key is taken.", [FieldError(FIELD, reason)])
        # The first answer may have been lost between its commit and its telling of the caches.
        for namespaces, tags in kept.stale:
            self._changes.reveal(Stale(tuple(namespaces), tuple(tags)))
        return Answer(kept.status, kept.body, kept.location, kept.etag)


def _kept(asked: Asked, answer: Answer, notes: Sequence[Note]) -> Kept:
    stale = [(list(note.stale.namespaces), list(note.stale.tags)) for note in notes]
    return Kept(asked.fingerprint, *answer, stale)
