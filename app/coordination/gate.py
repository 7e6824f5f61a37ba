"""Whether this process may believe what is cached: only while it looks after the outbox.

A change is committed with the record of what it makes stale; whoever wrote it tells Redis at once.
A writer that cannot, or dies in between, leaves the record for the others. So a process that has
not seen the records lately does not know what the cache should have been told.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_OPEN_S = 4.0  # 1 s less than the stated bound: so long a record is left to its writer


class Gate:
    """Open while the last completed look at the outbox began at most 4 s ago."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at: float | None = None
        self._shut_at = -float("inf")

    @property
    def is_open(self) -> bool:
        return self._looked_at is not None and self._clock() - self._looked_at <= _OPEN_S

    @property
    def age_s(self) -> float | None:
        """How long ago the last completed look began, seconds; None if there was none."""
        return None if self._looked_at is None else self._clock() - self._looked_at

    def passed(self, began: float) -> None:
        """A look that began then, monotonic seconds, was completed: all until then is told."""
        if began > self._shut_at:
            self._looked_at = began

    def shut(self) -> None:
        """Something is not told, until a look is completed that begins from now on."""
        self._shut_at = self._clock()
        self._looked_at = None
