"""What `flask cron` shows of jobs and runs, for programs and for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from app.db.cron import is_ahead
from app.db.cron_history import Entry, Overview
from app.scheduler.jobs import Job
from app.scheduler.progress import Progress
from app.services.views import rfc3339

View = Mapping[str, Any]

# Shown, never stored: the next attempt at its slot writes down what became of it.
_INTERRUPTED = "interrupted"
_TERMINAL_S, _PIPE_S = 0.2, 5.0


def job_view(job: Job, now: Overview) -> View:
    """One job, as JSON."""
    row = now.job
    running = row is not None and now.lease_left_ms >= 0
    return {
        "job": job.name,
        "schedule": str(job.schedule),
        "missed": job.missed,
        "grace_s": job.grace_s,
        "ttl_ms": job.ttl_ms,
        "paused": row.paused if row else False,
        "slot_ahead": _slot(row.slot) if row and is_ahead(row.slot, now.now_s) else None,
        "next": _slot(job.schedule.after(now.now_s)),
        "holder": row.holder if row and running else None,
        "fence": row.fence if row else 0,
        "lease_left_ms": now.lease_left_ms if running else None,
        "last": run_view(now.last) if now.last else None,
    }


def run_view(entry: Entry) -> View:
    """One attempt or missed slot, as JSON.

    `outcome` is null and `left_s` may be known only while it is going on.
    """
    run = entry.run
    ended = run.ended_at or run.heartbeat_at
    progress = Progress(run.rows, run.total, (ended - run.started_at).total_seconds())
    outcome = _INTERRUPTED if entry.interrupted else run.outcome
    left_s = progress.left_s if outcome is None else None
    return {
        "slot": _slot(run.slot),
        "attempt": run.attempt,
        "fence": run.fence,
        "instance": run.instance,
        "started": rfc3339(run.started_at),
        "heartbeat": rfc3339(run.heartbeat_at),
        "ended": rfc3339(run.ended_at) if run.ended_at else None,
        "outcome": outcome,
        "rows": run.rows,
        "total": run.total,
        "rows_per_s": round(progress.rate, 1),
        "left_s": None if left_s is None else round(left_s, 1),
    }


def told_job(view: View) -> str:
    """One job, as a line."""
    state = f"running on {view['holder']}" if view["holder"] else f"next {view['next']}"
    if view["paused"]:
        state = "paused"
    if view["slot_ahead"]:
        state += f", its newest slot {view['slot_ahead']} lies in the database's future"
    last = view["last"]
    ran = f"last {told_run(last)}" if last else "never run"
    return f"{view['job']:<16} {view['schedule']}, {state}; {ran}"


def told_run(view: View) -> str:
    """One attempt or missed slot, as a line."""
    outcome = view["outcome"] or "running"
    if outcome == "missed":
        return f"{view['slot']}  missed"
    of = "" if view["total"] is None else f" of {view['total']}"
    left = "" if view["left_s"] is None else f", {view['left_s']:.0f} s left"
    rows = f"{view['rows']}{of} rows, {view['rows_per_s']:.0f}/s{left}"
    return f"{view['slot']}  {outcome}  {rows}  attempt {view['attempt']}, {view['instance']}"


class ProgressLine:
    """Progress on standard error: one line over and over on a terminal, now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._on_terminal = quiet, sys.stderr.isatty()
        self._every_s = _TERMINAL_S if self._on_terminal else _PIPE_S
        self._shown_at = time.monotonic()

    def show(self, progress: Progress) -> None:
        """Show how far it is, if the last time was long enough ago."""
        now = time.monotonic()
        if not self._quiet and now - self._shown_at >= self._every_s:
            self._shown_at = now
            self._print(str(progress))

    def clear(self) -> None:
        """Make room for the outcome."""
        if not self._quiet and self._on_terminal:
            self._print("")

    def _print(self, text: str) -> None:
        shown = f"\r\x1b[K{text}" if self._on_terminal else text
        click.echo(shown, nl=not self._on_terminal, err=True)


def _slot(epoch_s: int) -> str:
    return rfc3339(datetime.fromtimestamp(epoch_s, UTC))
