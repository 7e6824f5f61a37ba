"""One run of one slot: claim, fence, batches, outcome.

Redis says who tries first, the database says who may. Every batch's transaction begins with the
fenced renewal, so that a scheduler that was stopped past its lease commits nothing when it wakes;
the last batch also writes the outcome. A crash leaves the slot without one, and any scheduler takes
it up where the batches stopped.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from dataclasses import dataclass
from enum import StrEnum

import structlog
from sqlalchemy.orm import Session

from app.coordination.cron import CronClaims, Verdict
from app.db import cron
from app.db.engine import Database
from app.db.enums import Outcome
from app.errors import DatabaseUnavailable, FencedOut, LockBusy
from app.metrics import Metrics
from app.scheduler.jobs import Job, Step

_log = structlog.get_logger(__name__)


class End(StrEnum):
    """How a try at a slot ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    FENCED_OUT = "fenced_out"
    UNAVAILABLE = "unavailable"
    TAKEN = "taken"
    DONE = "done"

    @property
    def is_over(self) -> bool:
        """Whether the slot has its outcome in the database, by this try or by another."""
        return self in (End.SUCCEEDED, End.FAILED, End.DONE)


@dataclass(frozen=True, slots=True)
class Run:
    """`rows` are this attempt's own."""

    end: End
    rows: int = 0


class Runner:
    """Runs slots, one at a time.

    Args:
        instance: this process's identity, for the ledger.
        stopping: set when the process is asked to end; a run stops between two batches.
    """

    def __init__(
        self,
        db: Database,
        claims: CronClaims,
        metrics: Metrics,
        *,
        instance: str,
        stopping: threading.Event,
    ) -> None:
        self._db, self._claims, self._metrics = db, claims, metrics
        self._instance, self._stopping = instance, stopping

    def run(self, job: Job, slot: int) -> Run:
        """Try the slot once; never waits for another scheduler.

        Raises:
            DatabaseUnavailable: the slot could not be asked about.
        """
        token = secrets.token_hex(16)
        verdict = self._claims.claim(job.name, slot, token=token, ttl_ms=job.ttl_ms)
        if verdict in (Verdict.DONE, Verdict.RUNNING):
            return Run(End.DONE if verdict is Verdict.DONE else End.TAKEN)
        done = False
        try:
            run = self._fenced(job, slot, token)
            done = run.end.is_over
        finally:
            self._claims.settle(job.name, slot, token=token, done=done)
        return run

    def _fenced(self, job: Job, slot: int, token: str) -> Run:
        opened = self._open(job, slot)
        if isinstance(opened, End):
            return Run(opened)
        started = time.monotonic()
        log = _log.bind(job=job.name, slot=slot, fence=opened)
        log.info("cron.started")
        attempt = _Attempt(self, job, slot, opened, token)
        try:
            end = attempt.work_through()
        except FencedOut:
            end = End.FENCED_OUT
        except (DatabaseUnavailable, LockBusy):
            end = End.UNAVAILABLE
            self._free(job, opened)
        except Exception:
            log.exception("cron.failed")
            end = self._failed(job, slot, opened)
        self._report(job, end, attempt.rows, time.monotonic() - started)
        log.info("cron.ended", outcome=end, rows=attempt.rows)
        return Run(end, attempt.rows)

    def _open(self, job: Job, slot: int) -> int | End:
        """Mint the fence and enter the attempt in the ledger as one, or say why not."""
        try:
            with self._db.write() as session:
                fence = cron.mint_fence(
                    session, job=job.name, slot=slot, holder=self._instance, ttl_ms=job.ttl_ms
                )
                if fence is None:
                    over = cron.has_outcome(session, job=job.name, slot=slot)
                    return End.DONE if over else End.TAKEN
                if not cron.open_run(
                    session, job=job.name, slot=slot, fence=fence, instance=self._instance
                ):
                    raise _SlotIsOver
                cron.abandon_older(session, job=job.name, slot=slot)
                return fence
        except _SlotIsOver:
            return End.DONE
        except LockBusy:
            return End.TAKEN

    def _free(self, job: Job, fence: int) -> None:
        """Nobody died: let the next look go on at once, if the database can hear it."""
        with contextlib.suppress(FencedOut, DatabaseUnavailable, LockBusy), self._db.write() as s:
            cron.free_lease(s, job=job.name, fence=fence)

    def _failed(self, job: Job, slot: int, fence: int) -> End:
        """A bug or a refused statement: end the slot, so that it is seen and not tried for ever."""
        try:
            with self._db.write() as session:
                cron.finish(session, job=job.name, slot=slot, fence=fence, outcome=Outcome.FAILED)
        except FencedOut:
            return End.FENCED_OUT
        except DatabaseUnavailable:
            return End.UNAVAILABLE
        return End.FAILED

    def _report(self, job: Job, end: End, rows: int, seconds: float) -> None:
        self._metrics.cron_runs.labels(job.name, end.value).inc()
        self._metrics.cron_rows.labels(job.name).inc(rows)
        self._metrics.cron_seconds.labels(job.name).observe(seconds)
        if end is End.SUCCEEDED:
            self._metrics.cron_last_success.labels(job.name).set_to_current_time()


class _Attempt:
    """The batches of one run, under one fence."""

    def __init__(self, runner: Runner, job: Job, slot: int, fence: int, token: str) -> None:
        self._runner, self._job, self._slot, self._fence = runner, job, slot, fence
        self._token = token
        self._renew_claim_at = time.monotonic() + job.ttl_ms / 3000
        self.rows = 0

    def work_through(self) -> End:
        """Batch after batch until nothing is left, or the process is asked to stop."""
        wait = False
        while not self._runner._stopping.is_set():
            with self._runner._db.write() as session:
                step = self._batch(session, wait)
            self.rows += step.rows
            self._after_commit(step)
            if step.finished:
                return End.SUCCEEDED
            # Rows that others hold were passed by; when nothing else is left, wait for them.
            wait = step.rows == 0
            self._renew_claim()
        with self._runner._db.write() as session:
            cron.free_lease(session, job=self._job.name, fence=self._fence)
        return End.STOPPED

    def _after_commit(self, step: Step) -> None:
        """The batch stands, whatever becomes of what follows it."""
        try:
            step.after_commit()
        except Exception:
            _log.exception("cron.after_commit_failed", job=self._job.name, slot=self._slot)

    def _batch(self, session: Session, wait: bool) -> Step:
        job, slot = self._job.name, self._slot
        cron.renew(session, job=job, fence=self._fence, ttl_ms=self._job.ttl_ms)
        step = self._job.work(session, wait)
        cron.heartbeat(session, job=job, slot=slot, rows=step.rows)
        if step.finished:
            cron.finish(session, job=job, slot=slot, fence=self._fence, outcome=Outcome.SUCCEEDED)
        return step

    def _renew_claim(self) -> None:
        """Keep the hint alive for a long run; the database's lease is renewed by every batch."""
        if time.monotonic() < self._renew_claim_at:
            return
        self._renew_claim_at = time.monotonic() + self._job.ttl_ms / 3000
        self._runner._claims.claim(
            self._job.name, self._slot, token=self._token, ttl_ms=self._job.ttl_ms
        )


class _SlotIsOver(Exception):
    """The slot has its outcome already: roll the minted fence back."""
