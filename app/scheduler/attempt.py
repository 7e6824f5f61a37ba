"""The batches of one attempt at a slot: each transaction begins with the fenced renewal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session

from app.db import cron, cron_ledger
from app.db.engine import Database
from app.db.enums import Outcome
from app.scheduler.jobs import Job, Step
from app.scheduler.progress import Progress

_log = structlog.get_logger(__name__)


class Attempt:
    """Works through a slot under one fence.

    Args:
        stopping: set when the process is asked to end; the attempt stops between two batches.
        keep_claim: renews the claim in Redis, which spares the others the work.
        on_progress: told after every batch.
    """

    def __init__(
        self,
        db: Database,
        job: Job,
        slot: int,
        fence: int,
        *,
        stopping: threading.Event,
        keep_claim: Callable[[], object],
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        self._db, self._job, self._slot, self._fence = db, job, slot, fence
        self._stopping, self._keep_claim, self._on_progress = stopping, keep_claim, on_progress
        self._started = time.monotonic()
        self._keep_claim_at = self._started + job.ttl_ms / 3000
        self._total: int | None = None
        self.rows = 0

    def work_through(self) -> bool:
        """Batch after batch; True when nothing is left, False when it was stopped or paused.

        Raises:
            FencedOut: a newer fence exists; nothing of the last batch was committed.
            DatabaseUnavailable, LockBusy: the slot is left for another try.
        """
        try:
            return self._work_through()
        finally:
            self._told(self._job.after)

    def _work_through(self) -> bool:
        self._total = self._count()
        wait = False
        while not self._stopping.is_set():
            with self._db.write() as session:
                step = self._batch(session, wait)
            if step is None:
                break
            self.rows += step.rows
            self._told(step.after_commit)
            self._on_progress(self.progress)
            if step.finished:
                return True
            # Rows that others hold were passed by; when nothing else is left, wait for them.
            wait = step.rows == 0
            self._keep_claim_alive()
        self.give_back()
        return False

    def give_back(self) -> None:
        """Leave the slot to whoever comes next.

        Raises:
            FencedOut: somebody has it already.
        """
        with self._db.write() as session:
            self._finish(session, Outcome.STOPPED)

    @property
    def progress(self) -> Progress:
        return Progress(self.rows, self._total, time.monotonic() - self._started)

    def _batch(self, session: Session, wait: bool) -> Step | None:
        job, slot, fence = self._job.name, self._slot, self._fence
        paused = cron.renew(session, job=job, fence=fence, ttl_ms=self._job.ttl_ms)
        if paused:
            return None
        step = self._job.work(session, wait)
        cron_ledger.heartbeat(
            session, job=job, slot=slot, fence=fence, rows=step.rows, total=self._total
        )
        if step.finished:
            self._finish(session, Outcome.SUCCEEDED)
        return step

    def _finish(self, session: Session, outcome: Outcome) -> None:
        cron.finish(
            session, job=self._job.name, slot=self._slot, fence=self._fence, outcome=outcome
        )

    def _told(self, tell: Callable[[], None]) -> None:
        """What was committed stands, whatever becomes of what follows it."""
        try:
            tell()
        except Exception:
            _log.exception("cron.after_commit_failed", job=self._job.name, slot=self._slot)

    def _count(self) -> int | None:
        if self._job.count is None:
            return None
        with self._db.read() as session:
            return self._job.count(session)

    def _keep_claim_alive(self) -> None:
        """For a long run; the database's lease is renewed by every batch."""
        if time.monotonic() >= self._keep_claim_at:
            self._keep_claim_at = time.monotonic() + self._job.ttl_ms / 3000
            self._keep_claim()
