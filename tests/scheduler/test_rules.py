"""The seven rules of scheduled runs, one after the other, each with the trace that it closes.

Finer tests of the parts stand in tests/db/test_cron.py, tests/unit/test_turns.py and beside this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.coordination import keys
from app.coordination.absent import NoRedis
from app.coordination.gate import Gate
from app.db import cron
from app.db.engine import Database
from app.db.models import CronJob, CronRun, Task
from app.errors import DatabaseUnavailable
from app.scheduler.jobs import Step
from app.scheduler.loop import Loop
from app.scheduler.runner import End, Run, Runner
from app.scheduler.schedules import Every
from app.scheduler.turns import ON_TIME_S, Missed
from app.services.changes import Changes
from app.services.sweep import SweepService
from tests.scheduler.conftest import HOUR, SLOT, Batches, Bench
from tests.support.database import LONG_AGO, PassThroughCache, add_account, add_project, add_tasks
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


def lease_runs_out(bench: Bench) -> None:
    with bench.database.write() as session:
        session.execute(update(CronJob).values(lease_until=0))


# --- 1: one script claims slot and lock; it is a hint ---------------------------------------


def test_rule_1_done_is_said_only_after_the_outcome_has_committed(
    bench: Bench, valkey: Valkey
) -> None:
    marks = list[int]()
    with valkey.client() as raw:
        done = keys.cron("overdue", SLOT).done
        work = Batches(2, between=lambda: marks.append(raw.exists(done)))
        bench.runner().run(bench.job(work), SLOT)
        assert marks == [0, 0]
        assert raw.exists(done) == 1


def test_rule_1_a_claim_that_died_with_its_scheduler_loses_no_slot(bench: Bench) -> None:
    dead = bench.runner("dead")._claims
    dead.claim("overdue", SLOT, token="dead", ttl_ms=300)
    other, job = bench.runner("two"), bench.job(Batches())
    assert other.run(job, SLOT).end is End.TAKEN
    eventually(lambda: other.run(job, SLOT).end is End.SUCCEEDED, what="the claim's end")
    assert bench.ledger() == [(SLOT, "succeeded", 1, 10)]


# --- 2: the database mints the fence, and says no to a slot that is over --------------------


def test_rule_2_the_fence_rises_with_every_attempt_with_redis_and_without(bench: Bench) -> None:
    for number, client in enumerate((None, NoRedis("lock"), None)):
        bench.runner(client=client).run(bench.job(Batches()), SLOT + number * HOUR)
    with bench.database.read() as session:
        assert session.scalars(select(CronRun.fence).order_by(CronRun.slot)).all() == [1, 2, 3]


def test_rule_2_a_slot_that_is_over_is_not_run_again_whatever_redis_has_lost(
    bench: Bench, valkey: Valkey
) -> None:
    work = Batches()
    for _ in range(3):
        bench.runner().run(bench.job(work), SLOT)
        valkey.reset()
    assert work.done == 1


# --- 3: each batch begins with the fenced renewal --------------------------------------------


class StoppedInBetween(Batches):
    """After its first batch its lease ends, and `other` does the slot."""

    def __init__(self, bench: Bench, other: Runner) -> None:
        super().__init__(5)
        self.bench, self.other = bench, other

    def _committed(self) -> None:
        super()._committed()
        if self.done == 1:
            lease_runs_out(self.bench)
            self.other.run(self.bench.job(Batches()), SLOT)


def overtaken(bench: Bench) -> Run:
    slow = StoppedInBetween(bench, bench.runner("two", client=NoRedis("lock")))
    return bench.runner("one").run(bench.job(slow), SLOT)


def test_rule_3_whoever_was_overtaken_commits_nothing_more(bench: Bench) -> None:
    assert overtaken(bench) == Run(End.FENCED_OUT, 10)
    assert bench.ledger() == [(SLOT, "fenced_out", 1, 10), (SLOT, "succeeded", 2, 10)]


def test_rule_3_without_the_renewal_it_would_have_gone_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(cron, "renew", lambda *_, **__: False)
    assert overtaken(bench).rows > 10


# --- 4: PostgreSQL ends a batch that stands still --------------------------------------------


def stands_still(database: Database) -> Callable[[Session, bool], Step]:
    """A batch that goes on only once its own backend has been ended."""

    def work(session: Session, wait: bool) -> Step:  # noqa: ARG001  the port's parameters
        mine = session.scalar(text("SELECT pg_backend_pid()"))
        alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")

        def ended() -> bool:
            with database.read() as other:
                return not other.scalar(alive, {"pid": mine})

        eventually(ended, timeout_s=3, what="the end of the backend")
        return Step(10, True)

    return work


def test_rule_4_a_scheduler_stopped_inside_a_batch_does_not_hold_the_row_for_ever(
    bench_on_postgresql: Bench,
) -> None:
    bench = bench_on_postgresql
    job = bench.job(stands_still(bench.database), ttl_ms=1_000)
    assert bench.runner("one").run(job, SLOT) == Run(End.UNAVAILABLE, 0)
    eventually(
        lambda: bench.runner("two").run(bench.job(Batches()), SLOT).end is End.SUCCEEDED,
        what="the take-over",
    )


def test_rule_4_without_that_bound_the_batch_would_stand_still_for_good(
    bench_on_postgresql: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(cron, "_bound_run", lambda *_: None)
    bench = bench_on_postgresql
    job = bench.job(stands_still(bench.database), ttl_ms=1_000)
    assert bench.runner("one").run(job, SLOT).end is End.FAILED  # the wait above gave up


# --- 5: succeeded means that nothing was left ------------------------------------------------


@contextmanager
def edited(database: Database, task_id: UUID, until: threading.Event) -> Iterator[None]:
    """A user's transaction that holds the task's row until the event is set."""
    holds = threading.Event()

    def edit() -> None:
        with database.write() as session:
            session.execute(select(Task.id).where(Task.id == task_id).with_for_update())
            holds.set()
            until.wait(20)

    editor = threading.Thread(target=edit)
    editor.start()
    assert holds.wait(10)
    yield
    until.set()
    editor.join(30)


def sweep_beside_an_edit(bench: Bench, *, checks: bool) -> tuple[Run, list[bool], int]:
    """A sweep of three tasks, one of which is being edited: its run, its waits, what it left."""
    sweep = SweepService(Changes(bench.database, PassThroughCache(), Gate()))
    project = add_project(bench.database, add_account(bench.database))
    tasks = add_tasks(bench.database, project, 3, due_at=LONG_AGO)
    waits, lets_go = list[bool](), threading.Event()

    def work(session: Session, wait: bool) -> Step:
        waits.append(wait)
        if wait:
            lets_go.set()
        batch = sweep.run_batch(session, limit=10, skip_locked=not wait)
        left = sweep.any_left(session) if checks else 0
        return Step(batch.rows, batch.rows < 10 and not left)

    with edited(bench.database, tasks[1], lets_go):
        run = bench.runner().run(bench.job(work), SLOT)
        with bench.database.read() as session:
            left = sweep.count(session)
    return run, waits, left


def test_rule_5_rows_that_others_hold_are_taken_again_before_a_run_succeeds(
    bench_on_postgresql: Bench,
) -> None:
    run, waits, left = sweep_beside_an_edit(bench_on_postgresql, checks=True)
    assert (run, waits, left) == (Run(End.SUCCEEDED, 3), [False, False, True], 0)


def test_rule_5_without_the_count_it_would_have_succeeded_with_a_task_left(
    bench_on_postgresql: Bench,
) -> None:
    """The control of the test above."""
    run, _, left = sweep_beside_an_edit(bench_on_postgresql, checks=False)
    assert (run, left) == (Run(End.SUCCEEDED, 2), 1)


# --- 6: missed slots by policy ---------------------------------------------------------------


def three_slots_late(bench: Bench, policy: Missed) -> list[tuple[int, str | None]]:
    """What looks enter for the three slots since the last run, by their number."""
    # A period of which this moment is neither the beginning nor the end.
    now = bench.now_s()
    period = next(p for p in range(HOUR, 2 * HOUR, 60) if 2 * ON_TIME_S < now % p < p - 60)
    schedule = Every(period)
    first = schedule.latest(now) - 3 * period
    bench.runner().run(bench.job(Batches()), first)
    job = bench.job(Batches(), schedule=schedule, missed=policy, grace_s=4 * period)
    Loop(bench.runner(), [], poll_s=1, stopping=bench.stopping).look(job)
    return [((slot - first) // period, outcome) for slot, outcome, _, _ in bench.ledger()][1:]


def test_rule_6_latest_runs_the_newest_and_enters_the_others_as_missed(bench: Bench) -> None:
    expected = [(1, "missed"), (2, "missed"), (3, "succeeded")]
    assert three_slots_late(bench, Missed.LATEST) == expected
    assert bench.sample("cron_missed_slots_total", job="overdue") == 2


def test_rule_6_all_runs_each_the_oldest_first(bench: Bench) -> None:
    expected = [(1, "succeeded"), (2, "succeeded"), (3, "succeeded")]
    assert three_slots_late(bench, Missed.ALL) == expected
    with bench.database.read() as session:
        assert session.scalars(select(CronRun.fence).order_by(CronRun.slot)).all() == [1, 2, 3, 4]


def test_rule_6_skip_enters_every_late_slot_as_missed(bench: Bench) -> None:
    assert three_slots_late(bench, Missed.SKIP) == [(n, "missed") for n in (1, 2, 3)]
    assert bench.sample("cron_missed_slots_total", job="overdue") == 3


def test_rule_6_a_successor_goes_on_where_the_batches_stopped(bench: Bench) -> None:
    sweep = SweepService(Changes(bench.database, PassThroughCache(), Gate()))
    project = add_project(bench.database, add_account(bench.database))
    add_tasks(bench.database, project, 30, due_at=LONG_AGO)

    def work(session: Session, wait: bool) -> Step:
        if sweep.count(session) == 10:
            raise DatabaseUnavailable("cut off")
        batch = sweep.run_batch(session, limit=10, skip_locked=not wait)
        return Step(batch.rows, False)

    def rest(session: Session, wait: bool) -> Step:
        batch = sweep.run_batch(session, limit=10, skip_locked=not wait)
        return Step(batch.rows, not sweep.any_left(session))

    assert bench.runner("one").run(bench.job(work), SLOT) == Run(End.UNAVAILABLE, 20)
    assert bench.runner("two").run(bench.job(rest), SLOT) == Run(End.SUCCEEDED, 10)


# --- 7: the ledger, and hands on it, pass the same fence -------------------------------------


def test_rule_7_the_ledger_tells_of_each_attempt_who_when_under_which_fence_and_how_it_ended(
    bench: Bench,
) -> None:
    bench.runner("one").run(bench.job(Batches(2)), SLOT)
    with bench.database.read() as session:
        (run,) = session.scalars(select(CronRun)).all()
    assert (run.job, run.slot, run.attempt, run.fence) == ("overdue", SLOT, 1, 1)
    assert (run.instance, run.outcome, run.rows) == ("one", "succeeded", 20)
    assert run.ended_at is not None
    assert run.started_at <= run.heartbeat_at <= run.ended_at


def test_rule_7_a_run_by_hand_is_refused_while_a_scheduler_holds_the_fence(
    bench_on_postgresql: Bench,
) -> None:
    bench, ends = bench_on_postgresql, list[End]()
    by_hand = bench.runner("operator", client=NoRedis("lock"))

    def between() -> None:
        ends.append(by_hand.run(bench.job(Batches()), int(bench.now_s())).end)

    bench.runner().run(bench.job(Batches(between=between)), SLOT)
    assert ends == [End.TAKEN]
