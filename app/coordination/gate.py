"""Whether this process may believe what is cached: only while it looks after the outbox.

A change is committed with the record of what it makes stale; whoever wrote it tells Redis at once.
A writer that cannot, or dies in between, leaves the record for the others. So a process that has
not seen the records lately does not know what the cache should have been told.
"""

from __future__ import annotations

from collections.abc import Callable

from app.coordination.clocks import since_boot

LEFT_TO_WRITER_S = 1.0
"""For so long a record is nobody's business but its writer's."""

STATED_BOUND_S = 5.0
"""How long after a commit a cache may at worst show what it replaced."""

_OPEN_S = STATED_BOUND_S - LEFT_TO_WRITER_S


class Gate:
    """Open while the last completed look at the outbox began at most 4 s ago.

    `redis_lost`: it is shut because Redis cannot be told, rather than because nobody has looked.
    """

    def __init__(self, *, clock: Callable[[], float] = since_boot) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._shut_until = -float("inf")
        self.redis_lost = False

    @property
    def is_open(self) -> bool:
        return self._looked_at is not None and self._clock() - self._looked_at <= _OPEN_S

    @property
    def age_s(self) -> float | None:
        """How long ago the last completed look began, seconds; None if there was none."""
        return None if self._looked_at is None else self._clock() - self._looked_at

    def passed(self, began: float) -> None:
        """A look that began then, by `since_boot`, was completed: Redis is told."""
        if began >= self._shut_until:
            self._looked_at, self.redis_lost = began, False

    def shut(self) -> None:
        """Redis has not heard a change of this process; until a look finds its record."""
        self._shut_until = self._clock() + LEFT_TO_WRITER_S
        self._looked_at, self.redis_lost = None, True
