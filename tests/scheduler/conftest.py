"""A runner on a real database and a real Valkey, with a job whose batches the test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.coordination.absent import NoRedis, Scripting
from app.coordination.client import ScriptClient, from_url
from app.coordination.cron import CronClaims
from app.coordination.scripts import ScriptRegistry
from app.db import cron
from app.db.engine import Database
from app.db.models import CronRun
from app.metrics import Metrics
from app.scheduler.jobs import Job, Step, Work
from app.scheduler.runner import Runner
from app.scheduler.schedules import Every, Schedule
from app.scheduler.turns import Missed
from tests.support.database import migrated
from tests.support.redis_servers import Valkey

SCRIPTS = ScriptRegistry.from_folder()
HOUR = 3_600
SLOT = 472_222 * HOUR


class Batches:
    """A job's work in `count` batches of 10 rows; `between` runs inside each transaction."""

    def __init__(self, count: int = 1, between: Callable[[], None] = lambda: None) -> None:
        self.count, self.between = count, between
        self.done = self.after_commits = 0

    def __call__(self, session: Session, wait: bool) -> Step:  # noqa: ARG002  the port's parameters
        self.between()
        self.done += 1
        return Step(10, self.done >= self.count, self._committed)

    def _committed(self) -> None:
        self.after_commits += 1


class Bench:
    """What a test of runs needs: runners that share a database and a Redis, and the ledger."""

    def __init__(self, database: Database, client: Scripting) -> None:
        self.database, self._client = database, client
        self.metrics = Metrics()
        self.stopping = threading.Event()

    def runner(self, instance: str = "one", client: Scripting | None = None) -> Runner:
        claims = CronClaims(client or self._client, SCRIPTS, holder=instance)
        return Runner(
            self.database,
            claims,
            self.metrics,
            instance=instance,
            label=instance,
            stopping=self.stopping,
        )

    def job(
        self,
        work: Work,
        *,
        ttl_ms: int = 60_000,
        schedule: Schedule = Every(HOUR),  # noqa: B008  frozen
        missed: Missed = Missed.LATEST,
        grace_s: int = 365 * 86_400,
    ) -> Job:
        return Job("overdue", schedule, ttl_ms, missed, grace_s, work)

    def now_s(self) -> float:
        """The clock that slots are cut from."""
        with self.database.read() as session:
            return cron.seen(session, job="none").now_s

    def ledger(self) -> list[tuple[int, str | None, int, int]]:
        """(slot, outcome, attempt, rows) of every attempt, in order."""
        in_order = select(CronRun).order_by(CronRun.slot, CronRun.attempt)
        with self.database.read() as session:
            runs = session.scalars(in_order).all()
            return [(run.slot, run.outcome, run.attempt, run.rows) for run in runs]

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it was never touched."""
        return self.metrics.registry.get_sample_value(f"taskflow_{name}", labels) or 0.0


def client_of(url: str) -> ScriptClient:
    topology, options = from_url(url)
    return ScriptClient(
        purpose="lock", topology=topology, options=options, timeout_s=0.25, metrics=Metrics()
    )


@pytest.fixture
def bench(database_url: str, valkey: Valkey) -> Iterator[Bench]:
    with migrated(database_url) as database:
        yield Bench(database, client_of(valkey.url))


@pytest.fixture
def bench_without_redis(database_url: str) -> Iterator[Bench]:
    with migrated(database_url) as database:
        yield Bench(database, NoRedis("lock"))


@pytest.fixture
def bench_on_postgresql(postgres_url: str, valkey: Valkey) -> Iterator[Bench]:
    """For what SQLite, with its one writer at a time, cannot do."""
    with migrated(postgres_url) as database:
        yield Bench(database, client_of(valkey.url))
