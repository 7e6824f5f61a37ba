"""Whether this process may believe what is cached: only while it looks after the outbox.

A change is committed with the record of what it makes stale; whoever wrote it tells Redis at once.
A writer that cannot, or dies in between, leaves the record for the others. So a process that has
not seen the records lately does not know what the cache should have been told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.coordination import forks
from app.coordination.clocks import since_boot

LEFT_TO_WRITER_S = 1.0
"""For so long a record is nobody's business but its writer's."""

STATED_BOUND_S = 5.0
"""How long after a commit a cache may at worst show what it replaced."""

_OPEN_S = STATED_BOUND_S - LEFT_TO_WRITER_S


class Gate:
    """Open while the last completed look at the outbox began at most 4 s ago.

    `redis_lost`: Redis answered this process once, and the last that was heard of it is a look or a
    change without an answer. Of one that has never answered nobody knows what it tells others.
    """

    def __init__(self, *, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._shut_until = -float("inf")
        self._was_open = self.redis_lost = False
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """As the parent's: how long its last look holds does not change."""
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        looked_at = self._looked_at  # once: another thread may shut it meanwhile
        return looked_at is not None and self._clock() - looked_at <= _OPEN_S

    @property
    def age_s(self) -> float | None:
        """How long ago the last completed look began, seconds; None if there was none."""
        looked_at = self._looked_at
        return None if looked_at is None else self._clock() - looked_at

    def passed(self, began: float) -> None:
        """A look that began then, by `since_boot`, was completed: Redis is told."""
        with self._lock:
            if began >= self._shut_until:
                self._looked_at, self._was_open, self.redis_lost = began, True, False

    def unanswered(self) -> None:
        """Redis gave no answer to a look."""
        with self._lock:
            self.redis_lost = self._was_open

    def shut(self) -> None:
        """Redis has not heard a change of this process; until a look finds its record."""
        with self._lock:
            self._shut_until = self._clock() + LEFT_TO_WRITER_S
            self._looked_at, self.redis_lost = None, self._was_open
