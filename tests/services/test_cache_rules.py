"""The rules of the cache that need a database: `tests/unit/test_cache_rules.py` has the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import text

from app.coordination.cache import RedisCache
from app.coordination.stale import Heard, Stale
from app.db.engine import Database
from app.services.changes import Changes
from app.services.stats import StatsService
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask
from app.services.tasks import TaskService
from tests.support.caches import TASKS, Process
from tests.support.database import add_account, add_project, migrated
from tests.support.redis_servers import Valkey


@pytest.fixture
def processes(valkey: Valkey) -> Iterator[tuple[Process, Process]]:
    both = Process(valkey.url), Process(valkey.url)
    yield both
    for each in both:
        each.client.close()


# --- 3: the loader's transaction ------------------------------------------------------------------


class WrittenMeanwhile:
    """A cache before which somebody writes between a miss and its load."""

    def __init__(self, cache: RedisCache, write: Callable[[], None]) -> None:
        self._cache, self._write = cache, write
        self.records = cache.records

    def fetch(self, *args: Any, load: Callable[[], bytes], **options: Any) -> bytes:
        def overtaken() -> bytes:
            self._write()
            return load()

        return self._cache.fetch(*args, load=overtaken, **options)

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        return self._cache.invalidate(changes)


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with migrated(sqlite_url) as database:
        yield database


def test_rule_3_the_services_load_in_a_transaction_that_begins_after_the_miss(
    processes: tuple[Process, Process], db: Database
) -> None:
    ann = add_account(db)
    home, shared = add_project(db, ann), processes[0].cache
    tasks = TaskService(db, Changes(db, shared, shared.gate), shared)

    def write() -> None:
        tasks.create(ann, home, NewTask(title="Meanwhile"))

    cache = WrittenMeanwhile(shared, write)
    listing = TaskService(db, Changes(db, shared, shared.gate), cache)
    assert len(listing.list(ann, home, TaskQuery()).value["items"]) == 1
    assert StatsService(db, cache).project(ann, home).value["total"] == 2


@pytest.mark.parametrize("fresh", [True, False])
def test_rule_3_an_earlier_snapshot_would_be_stored_under_the_new_sequence(
    processes: tuple[Process, Process], db: Database, fresh: bool
) -> None:
    """Not fresh is the control: it is kept for everybody."""
    process, other = processes
    count = text("SELECT count(*) FROM accounts")
    with ExitStack() as stack:
        earlier = stack.enter_context(db.read())
        earlier.execute(count)
        add_account(db)
        process.cache.invalidate([TASKS])
        session = stack.enter_context(db.read()) if fresh else earlier
        process.read(lambda: str(session.scalar(count)).encode())
    other.value = 1
    assert other.read() == (1 if fresh else 0)
    assert other.events("hit_l2") == 1


def test_rule_5_the_cache_is_told_after_the_commit_and_before_the_answer(
    processes: tuple[Process, Process], db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, seen = processes[0].cache, list[int]()
    invalidate = cache.invalidate

    def watched(changes: Sequence[Stale]) -> Heard:
        with db.read() as session:
            seen.append(session.scalar(text("SELECT count(*) FROM invalidations")) or 0)
        return invalidate(changes)

    monkeypatch.setattr(cache, "invalidate", watched)
    Changes(db, cache, cache.gate).commit(lambda _: None, lambda _: TASKS)
    assert seen == [1]
