"""When to look: every few seconds, and on every minute's first second, where slots begin.

The `schedule` library says when, by this machine's clock; the database says what is due, by its
own, so that a clock that is wrong costs punctuality and no slot. A look is one short query for each
job. So a crashed run, a lost claim and a scheduler that started late all end in the same place: the
next look takes the slot up. `run` looks anyway when the clock was set back, and `__main__` keeps it
in UTC, where no hour comes twice.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import schedule
import structlog

from app.errors import DatabaseUnavailable
from app.scheduler.jobs import Job
from app.scheduler.runner import End, Runner

_log = structlog.get_logger(__name__)


class Loop:
    """Looks for due slots until it is asked to stop.

    Args:
        poll_s: seconds between two looks.
    """

    def __init__(
        self, runner: Runner, jobs: Sequence[Job], *, poll_s: int, stopping: threading.Event
    ) -> None:
        self._runner, self._stopping, self._poll_s = runner, stopping, poll_s
        self._when = schedule.Scheduler()
        for job in jobs:
            self._when.every(poll_s).seconds.do(self.look, job)
            self._when.every().minute.at(":00").do(self.look, job)

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
        """Try what is due, one slot after the other, as long as each comes to its end.

        Whatever goes wrong is logged and left to the next look: one bad job must not stop the
        others, nor a database that is away for an hour the scheduler.
        """
        try:
            while not self._stopping.is_set():
                run = self._runner.look(job)
                # A slot that is over already: the next look sees what is due, if anything is.
                if run is None or run.end is End.DONE or not run.end.is_over:
                    return
        except DatabaseUnavailable:
            _log.warning("cron.database_unavailable", job=job.name)
        except Exception:
            _log.exception("cron.look_failed", job=job.name)
