"""Schedulers under trial: several, with wrong clocks, while everything around them fails.

Shared by the test of "once a slot" and by its benchmark. Slots begin every second; each is the
overdue sweep over tasks that keep coming, in batches with a pause between them. Faults are made one
at a time, and each is over only once another slot has been committed after it.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from app.db.migrate import upgrade
from tests.support.child import ROOT, Child
from tests.support.cron_evidence import Verdict, judge, set_up_witnesses
from tests.support.failing_redis import Failing
from tests.support.processes import environment
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

SKEWS_S = (-45, -20, 0, 20, 45)
GRACE_S, TTL_S = 5, 1
_PATIENCE_S = 60.0
_TASKS_AT_ONCE, _TASKS_EVERY_S = 3, 0.1

_PROJECT = """
INSERT INTO accounts (id, email, name, password_hash, role, created_at, updated_at)
VALUES (gen_random_uuid(), 'a@example.com', 'a', 'none', 'user', now(), now());
INSERT INTO projects (id, owner_id, name, description, version, created_at, updated_at)
SELECT gen_random_uuid(), id, 'p', '', 1, now(), now() FROM accounts;
"""
_TASKS = """
INSERT INTO tasks (id, project_id, title, description, status, priority, due_at, version,
                   created_at, updated_at)
SELECT gen_random_uuid(), projects.id, 'late', '', 'pending', 'medium', now(), 1, now(), now()
FROM projects, generate_series(1, %s)
"""
_ENDED = "SELECT count(DISTINCT slot) FROM seen_outcomes WHERE outcome IN ('succeeded', 'missed')"
_SLOTS = "SELECT min(slot), max(slot) FROM seen_outcomes WHERE outcome IN ('succeeded', 'missed')"
_FENCE = "SELECT fence FROM cron_jobs"
_HOLDER = """
SELECT holder, fence FROM cron_jobs WHERE lease_until > extract(epoch FROM clock_timestamp()) * 1000
"""


class Feeder:
    """Adds tasks that are late, a few at a time, until it is stopped."""

    def __init__(self, database_url: str) -> None:
        self._database_url, self._stopping = database_url, threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _feed(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while not self._stopping.wait(_TASKS_EVERY_S):
                connection.execute(_TASKS, (_TASKS_AT_ONCE,))


class Trial:
    """Schedulers over one database and one Redis. Use `started`."""

    def __init__(self, database_url: str, redis: Failing, folder: Path, planted: str) -> None:
        self._db = psycopg.connect(database_url, autocommit=True)
        self._redis, self._folder = redis, folder
        self.faults: Counter[str] = Counter()
        self._env = environment(
            {
                "DATABASE_URL": database_url,
                "REDIS_URL": redis.proxy.url,
                "OVERDUE_SWEEP_PERIOD_S": "1",
                "OVERDUE_SWEEP_LOCK_TTL_S": str(TTL_S),
                "OVERDUE_SWEEP_MISSED": "all",
                "OVERDUE_SWEEP_GRACE_S": str(GRACE_S),
                "OVERDUE_SWEEP_BATCH": "10",
                "SCHEDULER_POLL_S": "1",
                "TRIAL_PACE_S": "0.05",
                "TRIAL_PLANTED": planted,
            }
        )
        self._feeder = Feeder(database_url)
        self._schedulers = [self._start(number) for number in range(len(SKEWS_S))]

    @property
    def ended(self) -> int:
        """How many slots have their outcome."""
        return self._number(_ENDED)

    def make(self, fault: str) -> None:
        """Make a fault, and wait until a slot has come to its end after it."""
        getattr(self, f"_{fault}")()
        self.faults[fault] += 1
        self._await_more()

    def wait_for(self, slots: int) -> None:
        """Wait until so many slots have ended."""
        patience_s = _PATIENCE_S + 3 * slots
        eventually(lambda: self.ended >= slots, timeout_s=patience_s, what=f"{slots} slots")

    def end(self) -> Verdict:
        """Stop the schedulers and judge what they did."""
        self._feeder.stop()
        unmarked = "SELECT count(*) FROM tasks WHERE overdue_at IS NULL"
        eventually(lambda: not self._number(unmarked), timeout_s=_PATIENCE_S, what="every mark")
        for scheduler in self._schedulers:
            scheduler.send(signal.SIGTERM)
        for scheduler in self._schedulers:
            assert scheduler.wait() == 0, scheduler.text()
        return self.verdict()

    def verdict(self) -> Verdict:
        """On what they have done so far."""
        first, last = self._db.execute(_SLOTS).fetchone() or (0, 0)
        return judge(self._db, first, last, grace_s=GRACE_S)

    def close(self) -> None:
        self._feeder.stop()
        for scheduler in self._schedulers:
            scheduler.kill()
        self._db.close()

    def _kill(self) -> None:
        """SIGKILL whoever holds the job, and start another in its place."""
        number, _ = self._holder()
        self._schedulers[number].kill()
        self._schedulers[number] = self._start(number)

    def _stop(self) -> None:
        """Stop whoever holds the job until another has taken it up; then let it go on."""
        while True:
            number, fence = self._holder()
            held = self._schedulers[number]
            held.freeze()
            if self._holds() == (number, fence):
                break
            held.thaw()  # it had come to its end: that is no stop within a run
        eventually(
            lambda: self._number(_FENCE) > fence, timeout_s=_PATIENCE_S, what="the take-over"
        )
        held.thaw()

    def _stop_all(self) -> None:
        """Nobody runs for longer than the grace: slots are missed."""
        for scheduler in self._schedulers:
            scheduler.freeze()
        clock = "SELECT extract(epoch FROM clock_timestamp())::int"
        began = self._number(clock)
        eventually(lambda: self._number(clock) > began + GRACE_S + 2, what="the grace to be over")
        for scheduler in self._schedulers:
            scheduler.thaw()

    def _redis_killed(self) -> None:
        start_again = self._redis.lose()
        self._await_more()
        start_again()

    def _redis_flushed(self) -> None:
        self._holder()
        self._redis.flush()

    def _redis_failed_over(self) -> None:
        self._redis.part()
        self._await_more()
        self._holder()
        self._redis.fail_over()

    def _await_more(self) -> None:
        before = self.ended
        eventually(lambda: self.ended > before, timeout_s=_PATIENCE_S, what="another slot")

    def _holder(self) -> tuple[int, int]:
        """Wait until a scheduler works, and return its number and its fence."""
        found = eventually(self._holds, timeout_s=_PATIENCE_S, what="a run")
        assert found is not None
        return found

    def _holds(self) -> tuple[int, int] | None:
        row = self._db.execute(_HOLDER).fetchone()
        if row is None:
            return None
        pid = int(row[0].split(":")[1])
        pids = [scheduler.pid for scheduler in self._schedulers]
        return (pids.index(pid), row[1]) if pid in pids else None

    def _start(self, number: int) -> Child:
        own = {"TRIAL_SKEW_S": str(SKEWS_S[number]), "INSTANCE_ID": f"scheduler-{number}"}
        command = [sys.executable, "-m", "tests.support.trial_scheduler"]
        output = self._folder / f"scheduler-{number}.log"
        env = {**self._env, **own}
        return Child(f"scheduler-{number}", command, output=output, env=env, cwd=ROOT)

    def _number(self, query: str) -> int:
        row = self._db.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


def plan(slots: int, *, seed: int) -> list[str]:
    """Faults for so many slots, in an order of chance: half of them to schedulers."""
    often = max(2, slots // 12)
    faults = ["kill", "stop"] * often
    faults += ["redis_killed", "redis_flushed", "redis_failed_over"] * (often // 2)
    faults += ["stop_all"] * max(1, slots // 100)
    random.Random(seed).shuffle(faults)
    return faults


@contextmanager
def started(database_url: str, folder: Path, *, planted: str = "") -> Iterator[Trial]:
    """Schedulers at work on an empty database at `database_url`.

    Args:
        planted: which protection is taken out (`trial_scheduler`), for a negative control.
    """
    upgrade(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        set_up_witnesses(connection)
        connection.execute(_PROJECT)
        if planted == "no-ledger":
            connection.execute("DROP INDEX uq_cron_runs_final")
    with (
        Valkey.start(folder / "primary") as primary,
        Valkey.start(folder / "replica") as replica,
        Proxy.start(primary.port) as proxy,
    ):
        trial = Trial(database_url, Failing(primary, replica, proxy), folder, planted)
        try:
            yield trial
        finally:
            trial.close()


def run(trial: Trial, slots: int, faults: Sequence[str]) -> Verdict:
    """Make the faults, one after the other, over at least so many slots; then judge."""
    trial.wait_for(1)
    for fault in faults:
        trial.make(fault)
    trial.wait_for(slots)
    return trial.end()
