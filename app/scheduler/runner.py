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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from app.coordination.cron import CronClaims, Verdict
from app.db import cron, cron_ledger
from app.db.engine import Database
from app.db.enums import Outcome
from app.errors import DatabaseUnavailable, FencedOut, LockBusy
from app.metrics import Metrics
from app.scheduler.attempt import Attempt
from app.scheduler.jobs import Job
from app.scheduler.progress import Progress
from app.scheduler.turns import Standing, turn

OnProgress = Callable[[Progress], None]

_log = structlog.get_logger(__name__)


def _quiet(_progress: Progress) -> None:
    """Nobody watches."""


class End(StrEnum):
    """How a try at a slot ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    FENCED_OUT = "fenced_out"
    UNAVAILABLE = "unavailable"
    TAKEN = "taken"
    DONE = "done"
    PASSED_OVER = "passed_over"

    @property
    def is_over(self) -> bool:
        """Whether the slot has its outcome in the database, by this try or by another."""
        return self in (End.SUCCEEDED, End.FAILED, End.DONE, End.PASSED_OVER)


@dataclass(frozen=True, slots=True)
class Run:
    """`rows` are this attempt's own."""

    end: End
    rows: int = 0


class Runner:
    """Runs slots, one at a time.

    Args:
        instance: this process's identity, for the ledger.
        label: the instance's name, for the metrics: it stays when the process is started anew.
        stopping: set when the process is asked to end; a run stops between two batches.
    """

    def __init__(
        self,
        db: Database,
        claims: CronClaims,
        metrics: Metrics,
        *,
        instance: str,
        label: str,
        stopping: threading.Event,
    ) -> None:
        self._db, self._claims, self._metrics = db, claims, metrics
        self._instance, self._label, self._stopping = instance, label, stopping
        self._told: dict[str, int] = {}  # by job: the slot ahead of its time that was told of

    def seen(self, job: Job) -> cron.Seen:
        """The job as the database has it, with the clock that slots are cut from.

        Raises:
            DatabaseUnavailable: nobody can tell.
        """
        with self._db.read() as session:
            return cron.seen(session, job=job.name)

    def look(self, job: Job, *, anew: bool = False, on_progress: OnProgress = _quiet) -> Run | None:
        """Try the slot that is due, if one is; None if nothing is due, or the job is paused.

        Args:
            anew: as for `cron.set_back`.

        Raises:
            DatabaseUnavailable: the slot could not be asked about.
        """
        now = self.seen(job)
        if now.paused:
            return None
        if now.is_ahead:
            self._set_back(job, now.slot, anew=anew)
            now = self.seen(job)
            if now.is_ahead:
                return None
        due = turn(
            job.schedule,
            job.missed,
            grace_s=job.grace_s,
            standing=Standing(now.slot, now.is_open),
            now_s=now.now_s,
        )
        if due is None:
            return None
        if due.slot is None:
            return self._pass_over(job, due.missed)
        return self.run(job, due.slot, missed=due.missed, on_progress=on_progress)

    def run(
        self,
        job: Job,
        slot: int,
        *,
        missed: Sequence[int] = (),
        on_progress: OnProgress = _quiet,
    ) -> Run:
        """Try the slot once; never waits for another scheduler.

        Args:
            missed: slots before it that are passed over, the oldest first.

        Raises:
            DatabaseUnavailable: the slot could not be asked about.
        """
        token = secrets.token_hex(16)

        def claim() -> Verdict:
            return self._claims.claim(job.name, slot, token=token, ttl_ms=job.ttl_ms)

        # "Done" is no more than a hint either: Redis may remember what a restored database forgot.
        if claim() is Verdict.RUNNING:
            return Run(End.TAKEN)
        run = None
        try:
            run = self._try(job, slot, missed, keep_claim=claim, on_progress=on_progress)
            return run
        finally:
            done = run is not None and run.end.is_over
            self._claims.settle(job.name, slot, token=token, done=done)

    def _try(
        self,
        job: Job,
        slot: int,
        missed: Sequence[int],
        *,
        keep_claim: Callable[[], object],
        on_progress: OnProgress,
    ) -> Run:
        fence = self._open(job, slot, missed)
        if isinstance(fence, End):
            return Run(fence)
        attempt = Attempt(
            self._db,
            job,
            slot,
            fence,
            stopping=self._stopping,
            keep_claim=keep_claim,
            on_progress=on_progress,
        )
        return self._fenced(job, slot, fence, attempt)

    def _fenced(self, job: Job, slot: int, fence: int, attempt: Attempt) -> Run:
        log = _log.bind(job=job.name, slot=slot, fence=fence)
        log.info("cron.started")
        try:
            end = End.SUCCEEDED if attempt.work_through() else End.STOPPED
        except FencedOut:
            end = End.FENCED_OUT
            self._metrics.cron_fenced_out.labels(job.name).inc()
        except (DatabaseUnavailable, LockBusy) as error:
            end = End.UNAVAILABLE
            log.warning("cron.unavailable", why=str(error))
            # Nobody died: let the next look go on at once, if the database can hear it.
            with contextlib.suppress(FencedOut, DatabaseUnavailable, LockBusy):
                attempt.give_back()
        except Exception:
            log.exception("cron.failed")
            end = self._failed(job, slot, fence)
        self._report(job, end, attempt.progress)
        log.info("cron.ended", outcome=end, rows=attempt.rows)
        return Run(end, attempt.rows)

    def _open(self, job: Job, slot: int, missed: Sequence[int]) -> int | End:
        """Mint the fence and enter the attempt in the ledger as one, or say why not."""
        name, instance = job.name, self._instance
        try:
            with self._db.write() as session:
                fence = cron.mint_fence(
                    session, job=name, slot=slot, holder=instance, ttl_ms=job.ttl_ms
                )
                if fence is None:
                    over = cron_ledger.has_outcome(session, job=name, slot=slot)
                    return End.DONE if over else End.TAKEN
                if not cron_ledger.open_run(
                    session, job=name, slot=slot, fence=fence, instance=instance
                ):
                    raise _SlotIsOver
                cron_ledger.abandon_older(session, job=name, slot=slot)
                entered = cron_ledger.enter_missed(
                    session, job=name, instance=instance, slots=missed
                )
                cron_ledger.trim(session, job=name, slot=slot)
        except _SlotIsOver:
            self._pass_over(job, (slot,))  # or the job's row, behind its ledger, asks for ever
            return End.DONE
        except LockBusy:
            return End.TAKEN
        self._report_missed(job, entered)
        return fence

    def _set_back(self, job: Job, slot: int, *, anew: bool) -> None:
        self._metrics.cron_slots_ahead.labels(job.name).inc()
        with self._db.write() as session:
            back = cron.set_back(session, job=job.name, ttl_ms=job.ttl_ms, anew=anew)
        if back is not None:
            _log.warning("cron.slot_set_back", job=job.name, slot=slot, to=back)
        elif self._told.get(job.name) != slot:
            self._told[job.name] = slot
            _log.warning("cron.slot_ahead", job=job.name, slot=slot)

    def _pass_over(self, job: Job, missed: Sequence[int]) -> Run:
        with self._db.write() as session:
            entered = cron.pass_over(session, job=job.name, instance=self._instance, slots=missed)
        self._report_missed(job, entered)
        return Run(End.PASSED_OVER if entered else End.TAKEN)

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

    def _report(self, job: Job, end: End, progress: Progress) -> None:
        self._metrics.cron_runs.labels(job.name, self._label, end.value).inc()
        self._metrics.cron_rows.labels(job.name).inc(progress.rows)
        self._metrics.cron_seconds.labels(job.name).observe(progress.seconds)
        if end is End.SUCCEEDED:
            self._metrics.cron_last_success.labels(job.name).set_to_current_time()

    def _report_missed(self, job: Job, count: int) -> None:
        if count:
            self._metrics.cron_missed.labels(job.name).inc(count)
            _log.warning("cron.missed", job=job.name, slots=count, policy=job.missed)


class _SlotIsOver(Exception):
    """The slot has its outcome already: roll the minted fence back."""
