"""One background thread of a process that calls small pieces of work when they are due.

Started with the first piece, so that none exists before a fork; ends with the process.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

Work = Callable[[], float | None]
"""Does its piece; returns the monotonic second of its next turn, or None when it is finished."""

_log = structlog.get_logger(__name__)


class Ticker:
    """Runs work at its time, one after the other. What it runs must be short and bounded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._due: list[tuple[float, int, Work]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, due: float, work: Work) -> None:
        """Run `work` at `due`, monotonic seconds, and then whenever it asks for."""
        with self._changed:
            heapq.heappush(self._due, (due, next(self._numbers), work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._due[0][0] == due:  # the thread sleeps for longer than that
                self._changed.notify()

    def _run(self) -> None:
        while True:
            work = self._next()
            try:
                again = work()
            except Exception:
                _log.exception("ticker.failed", ticker=self._name)
                continue
            if again is not None:
                self.add(again, work)

    def _next(self) -> Work:
        with self._changed:
            while not self._due or self._due[0][0] > time.monotonic():
                self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
            return heapq.heappop(self._due)[2]
