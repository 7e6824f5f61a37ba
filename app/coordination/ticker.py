"""One background thread of a process that calls small pieces of work when they are due.

Started with the first piece, so that none exists before a fork; ends with the process. A child
process begins with nothing to do: what its parent had planned is its parent's.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

from app.coordination import forks

Work = Callable[[], float | None]
"""Does its piece; returns the monotonic second of its next turn, or None when it is finished."""

_FEW = 64  # cancelled pieces that may wait for their time
_log = structlog.get_logger(__name__)


class Plan:
    """A piece of work that comes again until it is finished or cancelled."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        self.work: Work | None = work


class Ticker:
    """Runs work at its time, one after the other. What it runs must be short and bounded."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With nothing planned, and no thread."""
        self._due: list[tuple[float, int, Plan]] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, due: float, work: Work) -> Plan:
        """Run `work` at `due`, monotonic seconds, and then whenever it asks for."""
        plan = Plan(work)
        self._push(due, plan)
        return plan

    def cancel(self, plan: Plan) -> None:
        """Never run it again; a turn under way comes to its end."""
        with self._changed:
            if plan.work is None:
                return
            plan.work = None
            self._cancelled += 1
            if self._cancelled > _FEW + len(self._due) // 2:
                self._sweep()

    def _sweep(self) -> None:
        """What was cancelled would wait for its time, however far that is."""
        self._due = [each for each in self._due if each[2].work is not None]
        heapq.heapify(self._due)
        self._cancelled = 0

    def _push(self, due: float, plan: Plan) -> None:
        with self._changed:
            heapq.heappush(self._due, (due, next(self._numbers), plan))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._due[0][0] == due:  # the thread sleeps for longer than that
                self._changed.notify()

    def _run(self) -> None:
        while True:
            plan = self._next()
            work = plan.work
            try:
                again = work() if work is not None else None
            except Exception:
                _log.exception("ticker.failed", ticker=self._name)
                continue
            if again is not None and plan.work is not None:
                self._push(again, plan)

    def _next(self) -> Plan:
        with self._changed:
            while not self._due or self._due[0][0] > time.monotonic():
                self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
            plan = heapq.heappop(self._due)[2]
            if plan.work is None:
                self._cancelled -= 1
            return plan
