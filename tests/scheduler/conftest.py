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
from app.db.engine import Database
from app.db.models import CronRun
from app.metrics import Metrics
from app.scheduler.jobs import Job, Step
from app.scheduler.runner import Runner
from tests.support.database import migrated
from tests.support.redis_servers import Valkey

SCRIPTS = ScriptRegistry.from_folder()
SLOT = 1_700_000_000


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
            self.database, claims, self.metrics, instance=instance, stopping=self.stopping
        )

    def job(self, work: Batches, ttl_ms: int = 60_000) -> Job:
        return Job("overdue", period_s=3_600, ttl_ms=ttl_ms, work=work)

    def ledger(self) -> list[tuple[int, str | None, int, int]]:
        """(slot, outcome, attempts, rows), in the order of the slots."""
        with self.database.read() as session:
            runs = session.scalars(select(CronRun).order_by(CronRun.slot)).all()
            return [(run.slot, run.outcome, run.attempt, run.rows) for run in runs]


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
