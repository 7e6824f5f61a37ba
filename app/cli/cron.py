"""`flask cron`: run a scheduled job by hand, under the same fence as the schedulers."""

from __future__ import annotations

import threading
import time

import click
from flask.cli import with_appcontext

from app.cli import Command, Commands, container
from app.scheduler.jobs import Job, table
from app.scheduler.runner import End, Run, Runner


@click.group(cls=Commands)
def cron() -> None:
    """The scheduled jobs."""


@cron.command(cls=Command)
@with_appcontext
@click.argument("job")
def run(job: str) -> None:
    """Run JOB now: the slot that is due, or an extra one where that is done already."""
    jobs = {each.name: each for each in table(container())}
    if job not in jobs:
        raise click.BadParameter(f"there is {', '.join(sorted(jobs))}", param_hint="JOB")
    done = _run(jobs[job])
    click.echo(f"{job}: {done.end}, {done.rows} rows")
    if done.end is not End.SUCCEEDED:
        raise SystemExit(1)


def _run(job: Job) -> Run:
    parts = container()
    runner = Runner(
        parts.db,
        parts.claims,
        parts.metrics,
        instance=parts.identity,
        stopping=threading.Event(),
    )
    due = runner.run(job, job.slot_at(time.time()))
    return runner.run(job, int(time.time())) if due.end is End.DONE else due
