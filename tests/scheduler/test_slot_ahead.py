"""A job whose newest slot lies in the database's future: its clock was ahead, and went back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from sqlalchemy import insert, update
from structlog.testing import capture_logs

from app.db import cron, cron_ledger
from app.db.enums import Outcome
from app.db.models import CronJob, CronRun
from app.db.types import db_now, db_now_ms
from app.scheduler.runner import End, Run, Runner
from app.scheduler.schedules import Every
from app.scheduler.turns import Missed
from tests.scheduler.conftest import HOUR, Batches, Bench

DAYS_10 = 10 * 86_400
TTL_MS = 60_000
WARNED = ("cron.slot_set_back", "cron.slot_ahead")


class Ahead:
    """A job that ran an hour ago; then the clock was 10 days ahead, and it ran there."""

    def __init__(
        self, bench: Bench, *, outcome: Outcome | None = Outcome.SUCCEEDED, lease_ms: int = -1
    ) -> None:
        now = bench.now_s()
        # No slot begins while a test runs, and none began within a step that is waited out.
        period = next(p for p in range(HOUR, 2 * HOUR, 60) if 120 < now % p < p - 60)
        self.bench, self.schedule = bench, Every(period)
        self.latest = self.schedule.latest(now)
        self.before, self.ahead = self.latest - period, self.latest + DAYS_10
        bench.runner().run(bench.job(Batches()), self.before)
        self.enter(self.ahead, outcome)
        with bench.database.write() as session:
            lease_until = db_now_ms() + lease_ms
            session.execute(update(CronJob).values(slot=self.ahead, lease_until=lease_until))

    def enter(self, slot: int, outcome: Outcome | None) -> None:
        attempt = {"job": "overdue", "slot": slot, "attempt": 1, "fence": 1, "rows": 10}
        when = {"started_at": db_now(), "heartbeat_at": db_now()}
        with self.bench.database.write() as session:
            entry = insert(CronRun).values(**attempt, **when, instance="one", outcome=outcome)
            session.execute(entry)

    def look(self, runner: Runner | None = None, *, anew: bool = False) -> Run | None:
        job = self.bench.job(Batches(), ttl_ms=TTL_MS, schedule=self.schedule)
        return (runner or self.bench.runner()).look(job, anew=anew)

    def ran(self) -> list[tuple[int, str | None]]:
        return [(slot, outcome) for slot, outcome, *_ in self.bench.ledger()]


def warned(logs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [line["event"] for line in logs if line["event"] in WARNED]


def test_a_job_that_ran_ahead_of_its_time_is_set_back_and_runs_again(bench: Bench) -> None:
    job = Ahead(bench)
    with capture_logs() as logs:
        assert job.look() == Run(End.SUCCEEDED, 10)
        assert job.look() is None
    assert job.ran() == [(slot, "succeeded") for slot in (job.before, job.latest, job.ahead)]
    (line,) = [line for line in logs if line["event"] in WARNED]
    assert (line["event"], line["log_level"]) == ("cron.slot_set_back", "warning")
    assert (line["job"], line["slot"], line["to"]) == ("overdue", job.ahead, job.before)
    assert bench.sample("cron_slots_ahead_total", job="overdue") == 1


def test_without_being_set_back_it_would_never_run_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(cron, "set_back", lambda *_, **__: None)
    job = Ahead(bench)
    assert [job.look() for _ in range(3)] == [None] * 3
    assert bench.runner().run(bench.job(Batches()), job.latest).end is End.TAKEN


def test_whoever_died_ahead_of_its_time_is_not_waited_for(bench: Bench) -> None:
    job = Ahead(bench, outcome=None, lease_ms=DAYS_10 * 1000)
    assert job.look() == Run(End.SUCCEEDED, 10)
    assert job.ran()[-1] == (job.ahead, None)  # taken up once its time has come


def test_a_run_that_still_goes_on_is_let_end_and_told_of_once(bench: Bench) -> None:
    job = Ahead(bench, outcome=None, lease_ms=TTL_MS // 2)
    runner = bench.runner()
    with capture_logs() as logs:
        assert [job.look(runner) for _ in range(3)] == [None] * 3
    assert warned(logs) == ["cron.slot_ahead"]
    assert bench.sample("cron_slots_ahead_total", job="overdue") == 3


def test_what_was_passed_over_ahead_of_its_time_will_be_run_in_its_time(bench: Bench) -> None:
    job = Ahead(bench)
    soon = [job.ahead - 2 * HOUR, job.ahead - HOUR]
    with bench.database.write() as session:
        cron_ledger.enter_missed(session, job="overdue", instance="one", slots=soon)
        cron_ledger.enter_missed(session, job="overdue", instance="one", slots=[job.before - HOUR])
    job.look()
    missed = [slot for slot, outcome in job.ran() if outcome == "missed"]
    assert missed == [job.before - HOUR]


def test_what_was_committed_ahead_of_its_time_is_not_committed_again_in_its_time(
    bench: Bench,
) -> None:
    """As the job's row stands behind the ledger, each such slot is passed, and the next is run."""
    job = Ahead(bench)
    for each in (3, 2, 1):
        job.enter(job.latest - each, Outcome.SUCCEEDED)
    with bench.database.write() as session:
        session.execute(update(CronJob).values(slot=job.latest - 3))
    every_second = bench.job(Batches(), schedule=Every(1), missed=Missed.ALL, grace_s=3 * HOUR)
    ends = [bench.runner().look(every_second) for _ in range(3)]
    assert ends == [Run(End.DONE), Run(End.DONE), Run(End.SUCCEEDED, 10)]
    assert (job.latest, "succeeded") in job.ran()


def test_a_ledger_that_has_nothing_older_is_left_to_an_operator(bench: Bench) -> None:
    """Nobody can tell a new job from a clock that is far behind now, and slots long forgotten."""
    job = Ahead(bench)
    with bench.database.write() as session:
        session.execute(update(CronRun).values(slot=CronRun.slot + 2 * DAYS_10))
    runner = bench.runner()
    with capture_logs() as logs:
        assert [job.look(runner) for _ in range(2)] == [None] * 2
    assert warned(logs) == ["cron.slot_ahead"]
    assert job.look(anew=True) == Run(End.SUCCEEDED, 10)


def test_a_step_of_the_clock_by_less_than_a_minute_is_waited_out(bench: Bench) -> None:
    job = Ahead(bench)
    soon = int(bench.now_s()) + 30
    job.enter(soon, Outcome.SUCCEEDED)
    with bench.database.write() as session:
        session.execute(update(CronJob).values(slot=soon))
    with capture_logs() as logs:
        assert job.look() is None
    assert warned(logs) == []
    assert bench.sample("cron_slots_ahead_total", job="overdue") == 0


def test_a_paused_job_is_left_as_it_is(bench: Bench) -> None:
    job = Ahead(bench)
    with bench.database.write() as session:
        cron.set_paused(session, job="overdue", paused=True)
    assert job.look() is None
    with bench.database.read() as session:
        assert cron.seen(session, job="overdue").slot == job.ahead
