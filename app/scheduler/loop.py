"""When to look: every few seconds, and for an hourly job on its hour's first second too.

The `schedule` library says when, by the wall clock; `run` looks anyway when that clock was set
back, and `__main__` keeps it in UTC, where no hour comes twice. A look is cheap: one script call
for each job, which answers `done` or `running` nearly always. So a crashed run, a lost claim and a
scheduler that started late all end in the same place: the next look takes the slot up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import schedule
import structlog

from app.errors import DatabaseUnavailable
from app.scheduler.jobs import Job
from app.scheduler.runner import Runner

_HOUR_S = 3_600
_log = structlog.get_logger(__name__)


class Loop:
    """Looks for due slots until it is asked to stop.

    Args:
        poll_s: seconds between two looks.
        now_s: the wall clock, seconds since the epoch; slots are cut from it.
    """

    def __init__(
        self,
        runner: Runner,
        jobs: Sequence[Job],
        *,
        poll_s: int,
        stopping: threading.Event,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._runner, self._stopping, self._now_s = runner, stopping, now_s
        self._poll_s = poll_s
        self._over: dict[str, int] = {}
        self._when = schedule.Scheduler()
        for job in jobs:
            self._when.every(poll_s).seconds.do(self.look, job)
            if job.period_s == _HOUR_S:
                self._when.every().hour.at(":00").do(self.look, job)

    def run(self) -> None:
        """Look at once, then as scheduled; returns when `stopping` is set."""
        self._when.run_all()
        while not self._stopping.is_set():
            self._when.run_pending()
            idle_s = self._when.idle_seconds or 0.0
            if idle_s > self._poll_s:
                self._when.run_all()  # the clock was set back; by its old time nothing is due
            self._stopping.wait(min(max(idle_s, 0.05), 1.0))

    def look(self, job: Job) -> None:
        """Try the slot that is due, unless this process knows that it is over.

        Whatever goes wrong is logged and left to the next look: one bad job must not stop the
        others, nor a database that is away for an hour the scheduler.
        """
        slot = job.slot_at(self._now_s())
        if self._stopping.is_set() or self._over.get(job.name) == slot:
            return
        try:
            run = self._runner.run(job, slot)
        except DatabaseUnavailable:
            _log.warning("cron.database_unavailable", job=job.name, slot=slot)
            return
        except Exception:
            _log.exception("cron.look_failed", job=job.name, slot=slot)
            return
        if run.end.is_over:
            self._over[job.name] = slot
