"""A request with a key is one transaction: key, work, answer, and what it made stale."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.coordination.gate import Gate
from app.db import idempotency
from app.db.idempotency import Asked
from app.db.models import IdempotencyKey, Project
from app.errors import LockBusy, NotFound
from app.services.changes import Changes, Note
from app.services.idempotency import Answer, Idempotency
from app.services.task_rules import NewTask
from tests.services.cache_site import TASKS, Site
from tests.services.conftest import World
from tests.support.database import rows_in, wait_for_a_blocked_backend

DONE = Answer(201, b"{}\n", "/api/v1/things/1", '"v1"')


def asked(world: World) -> Asked:
    return Asked(world.ann.account_id, "POST", "/api/v1/things", "key", "f" * 64)


@pytest.fixture
def once(world: World) -> Idempotency:
    return Idempotency(world.db, world.changes)


def test_units_and_reads_within_it_are_part_of_it_and_undone_with_it(
    world: World, once: Idempotency
) -> None:
    def fail_after_two() -> Answer:
        world.projects.create(world.ann, name="Two")
        world.tasks.create(world.ann, world.home, NewTask(title="Rent"))
        assert len(world.projects.list(world.ann, cursor=None, limit=9)["items"]) == 2
        assert world.cache.invalidated == []
        raise NotFound("thing")

    with pytest.raises(NotFound):
        once.once(asked(world), fail_after_two)
    assert (rows_in(world.db, Project), rows_in(world.db, IdempotencyKey)) == (1, 0)
    assert world.cache.invalidated == []


def test_a_unit_that_fails_within_it_is_undone_alone(world: World, once: Idempotency) -> None:
    def go_on_after_a_failure() -> Answer:
        with pytest.raises(ZeroDivisionError):
            world.db.retrying(renamed_and_failed)
        world.projects.create(world.ann, name="Two")
        return DONE

    def renamed_and_failed(session: Session) -> None:
        session.execute(text("UPDATE projects SET name = 'Failed'"))
        raise ZeroDivisionError

    assert once.once(asked(world), go_on_after_a_failure) is None
    with world.db.read() as session:
        names = session.scalars(text("SELECT name FROM projects ORDER BY name")).all()
    assert names == ["Home", "Two"]


def test_the_caches_are_told_after_the_commit_and_again_by_each_repetition(
    world: World, once: Idempotency
) -> None:
    def make() -> Answer:
        world.tasks.create(world.ann, world.home, NewTask(title="Rent"))
        assert world.cache.invalidated == []
        return DONE

    assert once.once(asked(world), make) is None
    told = list(world.cache.invalidated)
    assert len(told) == 1
    assert once.once(asked(world), make) == DONE
    assert world.cache.invalidated == told * 2


class DiesBeforeTelling(Changes):
    """A process that is killed between its commit and telling the caches."""

    def tell(self, notes: Sequence[Note]) -> None:
        pass


def test_who_reads_after_a_repeated_answer_sees_what_it_tells_of(world: World, site: Site) -> None:
    dying = DiesBeforeTelling(site.db, site.cache, Gate())

    def make() -> Answer:
        dying.commit(lambda _: None, lambda _: TASKS)
        return DONE

    assert site.read(1) == 1
    assert Idempotency(site.db, dying).once(asked(world), make) is None
    assert site.read(2) == 1  # what the first made stale, as its death left it
    assert Idempotency(site.db, site.changes).once(asked(world), make) == DONE
    assert site.read(2) == 2


def test_the_whole_runs_again_after_a_deadlock(postgres_world: World) -> None:
    """Within it nothing is tried again by itself: its locks and its key would be lost."""
    world, runs = postgres_world, list[str]()
    once = Idempotency(world.db, world.changes)

    def fail_once() -> Answer:
        runs.append("run")
        world.projects.create(world.ann, name=f"Run {len(runs)}")
        if len(runs) == 1:
            world.db.retrying(deadlock)
        return DONE

    assert once.once(asked(world), fail_once) is None
    assert len(runs) == 2
    with world.db.read() as session:
        names = session.scalars(text("SELECT name FROM projects ORDER BY name")).all()
    assert names == ["Home", "Run 2"]


def deadlock(session: Session) -> None:
    session.execute(text("DO $$ BEGIN RAISE deadlock_detected; END $$"))


def test_whoever_waits_for_the_first_too_long_is_told_that_it_still_runs(
    postgres_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "MOST_WAIT_MS", 50)
    world = postgres_world
    once = Idempotency(world.db, world.changes)

    def while_it_runs() -> Answer:
        told = in_a_thread(lambda: once.once(asked(world), until_never))
        assert isinstance(told, LockBusy)
        assert "still running" in str(told)
        return DONE

    assert once.once(asked(world), while_it_runs) is None


def test_whoever_waits_for_the_first_gets_its_answer(postgres_world: World) -> None:
    world, found = postgres_world, list[Any]()
    once = Idempotency(world.db, world.changes)
    waiting = threading.Thread(target=lambda: found.append(once.once(asked(world), until_never)))

    def until_somebody_waits() -> Answer:
        waiting.start()
        wait_for_a_blocked_backend(world.db)
        return DONE

    assert once.once(asked(world), until_somebody_waits) is None
    waiting.join(10)
    assert found == [DONE]


def until_never() -> Answer:
    raise AssertionError("it was done before")


def in_a_thread(call: Callable[[], Any]) -> Any:
    """What it returns or raises, on a thread that is part of no transaction."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).exception() or None
