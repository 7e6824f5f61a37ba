"""`flask cron`: see the scheduled jobs, run one by hand under the same fence, hold one back."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog
from flask.cli import with_appcontext

from app.cli import Command, Commands, container
from app.cli.cron_views import ProgressLine, job_view, run_view, told_job, told_run
from app.db import cron as fences
from app.db.cron_history import history as runs_of
from app.db.cron_history import overview
from app.errors import LockBusy
from app.scheduler.jobs import Job, table
from app.scheduler.runner import End, Run, Runner

_MOST_ROWS = 1_000
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_log = structlog.get_logger(__name__)


_job = click.argument("name", metavar="JOB")


@click.group(cls=Commands)
def cron() -> None:
    """The scheduled jobs."""


@cron.command("list", cls=Command)
@with_appcontext
@_json
def list_(as_json: bool) -> None:
    """Show every job: its schedule, its last run, who runs it now, when it is due next."""
    with container().db.read() as session:
        views = [job_view(job, overview(session, job=job.name)) for job in table(container())]
    if as_json:
        click.echo(json.dumps({"jobs": views}))
    else:
        click.echo("\n".join(map(told_job, views)))


@cron.command(cls=Command)
@with_appcontext
@_job
@click.option("--limit", type=click.IntRange(1, _MOST_ROWS), default=20, show_default=True)
@_json
def history(name: str, limit: int, as_json: bool) -> None:
    """Show the newest attempts of JOB and its missed slots, the newest first."""
    job = _find(name)
    with container().db.read() as session:
        views = [run_view(each) for each in runs_of(session, job=job.name, limit=limit)]
    if as_json:
        click.echo(json.dumps({"job": job.name, "runs": views}))
    else:
        click.echo("\n".join(map(told_run, views)) or f"{job.name}: never run.")


@cron.command(cls=Command)
@with_appcontext
@_job
@_json
def run(name: str, as_json: bool) -> None:
    """Run JOB now: the slot that is due, or an extra one where that is done already.

    Ctrl-C stops it between two batches; whoever comes next goes on there.
    """
    job, line = _find(name), ProgressLine(quiet=as_json)
    with _until_interrupted() as stopping:
        done = _run(job, stopping, line)
    line.clear()
    if as_json:
        click.echo(json.dumps({"job": job.name, "outcome": done.end, "rows": done.rows}))
    else:
        click.echo(f"{job.name}: {done.end}, {done.rows} rows")
    if done.end not in (End.SUCCEEDED, End.DONE):
        raise SystemExit(1)


@cron.command(cls=Command)
@with_appcontext
@_job
@_json
def pause(name: str, as_json: bool) -> None:
    """Hold JOB back. A run under way gives its slot back after its batch."""
    _set_paused(_find(name), as_json, paused=True)


@cron.command(cls=Command)
@with_appcontext
@_job
@_json
def resume(name: str, as_json: bool) -> None:
    """Let JOB go on: with the slot it left, and what its policy says of those it missed."""
    _set_paused(_find(name), as_json, paused=False)


def _find(name: str) -> Job:
    jobs = {each.name: each for each in table(container())}
    if name not in jobs:
        raise click.BadParameter(f"there is {', '.join(sorted(jobs))}", param_hint="JOB")
    return jobs[name]


def _set_paused(job: Job, as_json: bool, *, paused: bool) -> None:
    try:
        with container().db.write() as session:
            fences.set_paused(session, job=job.name, paused=paused)
    except LockBusy:
        raise click.ClickException(_in_a_batch(job)) from None
    _log.warning("cron.paused" if paused else "cron.resumed", job=job.name)
    said = {"job": job.name, "paused": paused}
    click.echo(json.dumps(said) if as_json else f"{job.name}: {'paused' if paused else 'resumed'}")


def _in_a_batch(job: Job) -> str:
    with container().db.read() as session:
        row = overview(session, job=job.name).job
    return (
        f"Nothing was changed: {job.name} is in the middle of a batch on "
        f"{row.holder if row else 'another machine'}. Try again; if that process hangs, end it."
    )


def _run(job: Job, stopping: threading.Event, line: ProgressLine) -> Run:
    parts = container()
    runner = Runner(
        parts.db,
        parts.claims,
        parts.metrics,
        instance=parts.identity,
        label=parts.settings.label,
        stopping=stopping,
    )
    now = runner.seen(job)
    if now.paused:
        raise click.ClickException(f"{job.name} is paused: flask cron resume {job.name}")
    due = runner.look(job, anew=True, on_progress=line.show)
    if due is not None and due.end is not End.PASSED_OVER:
        return due
    return runner.run(job, int(now.now_s), on_progress=line.show)


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, where they would cut a batch off."""
    stopping = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopping.set()) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
