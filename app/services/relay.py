"""Every process is a relay: each second it tells Redis what the outbox holds of others' changes.

A writer tells Redis itself, right after its commit; here is what becomes of it when it could not,
or died in between. A completed look opens the gate for this process's use of the cache; its age
when the gate shuts, and the moment for which a record is left to its writer, add up to the 5 s for
which a cache may at worst show what a commit replaced.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol
from uuid import UUID

import structlog

from app.coordination import forks
from app.coordination.clocks import since_boot
from app.coordination.gate import LEFT_TO_WRITER_S, Gate
from app.coordination.stale import NO_HISTORY, History, Stale
from app.coordination.ticker import Ticker
from app.db import invalidations
from app.db.engine import Database
from app.db.invalidations import Pending
from app.errors import CoordinationError, DatabaseUnavailable
from app.metrics import Metrics
from app.services.changes import Changes, Note, invalidate
from app.services.ports import Cache

_EVERY_S = 1.0
_LEFT_TO_WRITER_MS = int(LEFT_TO_WRITER_S * 1000)
_PAGE = 500
_PURGE_EVERY_S = 60.0
_PURGED = 5_000  # at once
_KEPT_LONGER_MS = 120_000
_log = structlog.get_logger(__name__)


class SharedCache(Cache, Protocol):
    """A cache that others read too, on a server with a history of writes."""

    def history(self) -> History:
        """Raises CoordinationError where nobody can tell."""
        ...


class Relay:
    """Looks after the outbox.

    Args:
        entry_ttl_s: the longest that an entry lives, seconds.
    """

    def __init__(
        self,
        db: Database,
        cache: SharedCache | None,
        changes: Changes,
        gate: Gate,
        metrics: Metrics,
        *,
        entry_ttl_s: int,
    ) -> None:
        self._db, self._cache, self._changes, self._gate = db, cache, changes, gate
        self._pending, self._checked = metrics.cache_pending, metrics.cache_checked
        self._untold = 0
        self._kept_ms = entry_ttl_s * 1000 + _KEPT_LONGER_MS
        self._ticker = Ticker("relay")
        self._closed = False
        self._history = NO_HISTORY
        self._purged_at = -float("inf")
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """Not looking yet; how long the parent's last look holds is the gate's business."""
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._begun = self._turned = False

    def begin(self) -> None:
        """Look from now on; again does nothing. Not before a fork: a thread does it."""
        if self._begun or self._cache is None:
            return
        with self._lock:
            if not self._begun:
                self._begun = True
                self._ticker.add(time.monotonic(), self._turn)

    def close(self) -> None:
        """As `settle`, and look no more."""
        with self._looking:
            self._closed = True
        self.settle()

    def settle(self) -> None:
        """Write down what this process told until now, so that no other tells it again."""
        with self._looking, contextlib.suppress(DatabaseUnavailable):
            self._mark_told()

    def look(self) -> bool:
        """Tell Redis what it may not have been told; whether that is now nothing.

        Raises:
            CoordinationError: Redis gave no answer.
            DatabaseUnavailable: the outbox cannot be read.
        """
        began = since_boot()
        assert self._cache is not None
        self._history = history = self._cache.history()
        self._mark_told()
        complete = True
        while complete:
            found = self._read(history)
            if not found:
                self._passed(began)
                break
            complete = self._tell(found)
        return complete

    def health(self) -> Mapping[str, str]:
        """A check for `/health`: `warn` with something untold, or while nothing is believed."""
        age_s, shut = self._gate.age_s, self._turned and not self._gate.is_open
        looked = "not looked at" if age_s is None else f"looked at {age_s:.1f} s ago"
        detail = f"{looked}, invalidations pending: {self._untold}"
        if shut:
            detail += "; this process answers from the database"
        return {
            "name": "cache:outbox",
            "status": "warn" if shut or self._untold else "pass",
            "detail": detail,
        }

    def _passed(self, began: float) -> None:
        self._gate.passed(began)
        self._checked.set(time.time() - (since_boot() - began))
        self._see_untold(0)

    def _see_untold(self, count: int) -> None:
        self._untold = count
        self._pending.set(count)

    def _turn(self) -> float | None:
        with self._looking:
            if self._closed:
                return None
            try:
                if not self._has_looked():
                    self._count()
                self._purge()
            except DatabaseUnavailable:
                _log.info("relay.not_looked", kind="database")
            except Exception:  # or this process would never look again
                _log.exception("relay.failed")
            self._turned = True
        return time.monotonic() + _EVERY_S

    def _has_looked(self) -> bool:
        try:
            return self.look()
        except CoordinationError as error:
            self._gate.unanswered()
            _log.info("relay.not_looked", kind=error.kind)
            return False

    def _count(self) -> None:
        with self._db.read() as session:
            left = invalidations.untold(session, least_age_ms=_LEFT_TO_WRITER_MS)
        self._see_untold(left.records)

    def _read(self, history: History) -> list[Pending]:
        with self._db.read() as session:
            return invalidations.pending(
                session,
                history=history,
                least_age_ms=_LEFT_TO_WRITER_MS,
                most_age_ms=self._kept_ms,
                limit=_PAGE,
            )

    def _tell(self, found: Sequence[Pending]) -> bool:
        assert self._cache is not None
        told = invalidate(
            self._cache, [Note(row.id, Stale(row.namespaces, row.tags)) for row in found]
        )
        self._mark((note.id, history) for note, history in told if history is not None)
        return all(history == self._history for _, history in told)

    def _mark_told(self) -> None:
        told = self._changes.take_told()
        try:
            self._mark(told)
        except DatabaseUnavailable:
            self._changes.give_back_told(told)
            raise

    def _mark(self, told: Iterable[tuple[UUID, History]]) -> None:
        by_history = defaultdict[History, list[UUID]](list)
        for id_, history in told:
            by_history[history].append(id_)
        for history, ids in by_history.items():
            for at in range(0, len(ids), _PAGE):
                mark = partial(invalidations.mark_told, ids=ids[at : at + _PAGE], history=history)
                self._db.retrying(mark)

    def _purge(self) -> None:
        """Now and then; whichever process comes first deletes for all."""
        if time.monotonic() - self._purged_at < _PURGE_EVERY_S:
            return
        with self._db.write() as session:
            gone = invalidations.forget_old(session, age_ms=self._kept_ms, limit=_PURGED)
        if gone < _PURGED:  # or the next turn goes on
            self._purged_at = time.monotonic()
