"""Several schedulers, several web servers: every slot once, every overdue task once."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from app.coordination import keys
from app.db.engine import Database
from app.db.models import CronJob, CronRun, Outbox, Task
from tests.multi.caller import Caller
from tests.multi.conftest import Env
from tests.support.database import LONG_AGO, add_account, add_project, add_tasks
from tests.support.processes import Gunicorn, SchedulerProcess
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

StartWeb = Callable[..., Gunicorn]
StartScheduler = Callable[..., SchedulerProcess]

SLOTS, MANY_SLOTS, PERIOD_S = 10, 300, 1
YEAR_S = "31536000"
ONE_SLOT = {"OVERDUE_SWEEP_PERIOD_S": YEAR_S, "OVERDUE_SWEEP_GRACE_S": YEAR_S}  # no new one begins


@pytest.fixture
def database(shared_env: Env) -> Iterator[Database]:
    """The processes' database, to look into."""
    database = Database(shared_env["DATABASE_URL"], pool_size=2, pool_timeout_ms=5_000)
    yield database
    database.close()


def add_late_tasks(database: Database, count: int) -> None:
    project = add_project(database, add_account(database))
    add_tasks(database, project, count=count, due_at=LONG_AGO)


@pytest.mark.parametrize("slots", [SLOTS, pytest.param(MANY_SLOTS, marks=pytest.mark.soak)])
def test_so_many_slots_give_so_many_committed_runs_and_each_task_is_marked_once(
    shared_env: Env,
    database: Database,
    start_gunicorn: StartWeb,
    start_scheduler: StartScheduler,
    slots: int,
) -> None:
    webs = [start_gunicorn(shared_env), start_gunicorn(shared_env)]
    caller = Caller.register(webs[0].base_url)
    callers = [caller.at(web.base_url) for web in webs]
    project = caller.made("/projects", {"name": "P"})["id"]
    env = {**shared_env, "OVERDUE_SWEEP_PERIOD_S": str(PERIOD_S), "SCHEDULER_POLL_S": "1"}
    schedulers = [start_scheduler({**env, "INSTANCE_ID": f"scheduler-{n}"}) for n in range(3)]
    made = 0
    while len(_slots(database)) < slots:
        task = {"title": f"Late {made}", "due_at": "2024-01-01T00:00:00Z"}
        callers[made % 2].made(f"/projects/{project}/tasks", task)
        made += 1
    eventually(lambda: _unmarked(database) == 0, what="every task to be marked")
    assert [scheduler.terminate() for scheduler in schedulers] == [0, 0, 0]

    committed = Counter(_succeeded_in_logs(schedulers))
    seen = _slots(database)
    assert len(seen) >= slots
    assert committed == Counter(seen)  # every slot by one scheduler, none by two
    assert _times_marked(database) == {1: made}


def test_sigterm_stops_a_sweep_between_batches_and_the_next_scheduler_finishes_it(
    shared_env: Env, database: Database, start_scheduler: StartScheduler, valkey: Valkey
) -> None:
    add_late_tasks(database, 5_000)
    env = {**shared_env, **ONE_SLOT, "OVERDUE_SWEEP_BATCH": "10"}
    first = start_scheduler(env)
    eventually(lambda: _rows(database) >= 50, what="some batches")
    assert first.end_with(signal.SIGTERM) == 0
    done = _rows(database)
    assert 50 <= done < 5_000
    assert done % 10 == 0
    assert 5_000 - _unmarked(database) == done
    assert _lease_until(database) == 0
    with valkey.client() as raw:
        assert raw.exists(keys.cron("overdue", _runs(database)[0].slot).lease) == 0
    second = start_scheduler({**env, "OVERDUE_SWEEP_BATCH": "1000"})
    eventually(lambda: _unmarked(database) == 0, what="the sweep to be finished")
    assert second.terminate() == 0
    assert _times_marked(database) == {1: 5_000}


def test_a_scheduler_killed_in_the_middle_is_replaced_within_the_same_slot(
    shared_env: Env, database: Database, start_scheduler: StartScheduler
) -> None:
    add_late_tasks(database, 3_000)
    env = {**shared_env, **ONE_SLOT, "OVERDUE_SWEEP_LOCK_TTL_S": "1", "SCHEDULER_POLL_S": "1"}
    first = start_scheduler({**env, "OVERDUE_SWEEP_BATCH": "10"})
    eventually(lambda: _rows(database) >= 50, what="some batches")
    first.kill()
    second = start_scheduler({**env, "OVERDUE_SWEEP_BATCH": "1000"})
    eventually(lambda: _unmarked(database) == 0, timeout_s=30, what="the take-over")
    assert second.terminate() == 0
    died, took_over = _runs(database)
    assert (died.outcome, took_over.outcome) == ("fenced_out", "succeeded")
    assert (took_over.attempt, died.rows + took_over.rows) == (2, 3_000)
    assert _times_marked(database) == {1: 3_000}


def test_with_redis_gone_the_sweep_still_runs_once(
    shared_env: Env, database: Database, start_scheduler: StartScheduler, valkey: Valkey
) -> None:
    add_late_tasks(database, 100)
    valkey.stop()
    env = {**shared_env, **ONE_SLOT, "SCHEDULER_POLL_S": "1"}
    schedulers = [start_scheduler(env) for _ in range(3)]
    eventually(lambda: _unmarked(database) == 0, timeout_s=30, what="the sweep")
    # One that is told to end while it is still being loaded ends as any program does.
    eventually(lambda: all(map(_has_started, schedulers)), timeout_s=30, what="all three")
    assert [scheduler.terminate() for scheduler in schedulers] == [0, 0, 0]
    valkey.restart()
    assert list(Counter(_succeeded_in_logs(schedulers)).values()) == [1]
    assert _times_marked(database) == {1: 100}


def _has_started(scheduler: SchedulerProcess) -> bool:
    return "scheduler.started" in scheduler.text()


def _succeeded_in_logs(schedulers: list[SchedulerProcess]) -> list[int]:
    """The slots that the schedulers themselves say they have committed."""
    lines: list[dict[str, Any]] = [
        json.loads(line)
        for scheduler in schedulers
        for line in scheduler.text().splitlines()
        if line.startswith("{")
    ]
    ended = [line for line in lines if line["event"] == "cron.ended"]
    return [line["slot"] for line in ended if line["outcome"] == "succeeded"]


def _runs(database: Database) -> list[CronRun]:
    with database.read() as session:
        runs = select(CronRun).where(CronRun.job == "overdue")
        return list(session.scalars(runs.order_by(CronRun.slot, CronRun.attempt)))


def _slots(database: Database) -> list[int]:
    """The slots that were run to their end, in order."""
    return [run.slot for run in _runs(database) if run.outcome == "succeeded"]


def _rows(database: Database) -> int:
    return sum(run.rows for run in _runs(database))


def _unmarked(database: Database) -> int:
    with database.read() as session:
        query = select(func.count()).select_from(Task).where(Task.overdue_at.is_(None))
        return session.scalar(query) or 0


def _lease_until(database: Database) -> int | None:
    with database.read() as session:
        return session.scalar(select(CronJob.lease_until))


def _times_marked(database: Database) -> dict[int, int]:
    """How many tasks were marked how many times, by the events written with the marks."""
    with database.read() as session:
        events = select(func.count()).where(Outbox.kind == "task.overdue")
        counts = session.scalars(events.group_by(Outbox.subject_id)).all()
    return dict(Counter(counts))
