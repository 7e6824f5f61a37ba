"""The sweep marks each overdue task once, whoever else sweeps or edits at the same time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, select, text, update

from app.db.engine import Database
from app.db.models import Outbox, Task
from app.errors import LockBusy
from app.services.ports import EVERY_TASK, LISTS, stale_projects
from app.services.sweep import EVENT, Batch
from tests.services.conftest import World
from tests.support.database import (
    FAR_AHEAD,
    LONG_AGO,
    add_project,
    add_tasks,
    column,
    rows_in,
    wait_for_a_blocked_backend,
)


def _batch(world: World, limit: int = 1_000, *, skip_locked: bool = True) -> Batch:
    with world.db.write() as session:
        return world.sweep.run_batch(session, limit=limit, skip_locked=skip_locked)


def _remaining(world: World) -> int:
    with world.db.read() as session:
        return int(world.sweep.any_left(session))


def _marked(database: Database) -> set[UUID]:
    with database.read() as session:
        return set(session.scalars(select(Task.id).where(Task.overdue_at.is_not(None))))


def test_just_the_open_tasks_past_due_are_marked(world: World) -> None:
    just_now = datetime.now(UTC) - timedelta(seconds=1)
    late = add_tasks(world.db, world.home, 2, due_at=LONG_AGO)
    late += add_tasks(world.db, world.home, 1, due_at=just_now, status="in_progress")
    add_tasks(world.db, world.home, 1, due_at=LONG_AGO, status="completed")
    add_tasks(world.db, world.home, 1, due_at=LONG_AGO, status="cancelled")
    add_tasks(world.db, world.home, 1, due_at=FAR_AHEAD)
    add_tasks(world.db, world.home, 1)
    assert _remaining(world) == 1
    batch = _batch(world)
    assert batch.rows == 3
    assert batch.note
    assert batch.note.stale == stale_projects(world.home)
    assert _marked(world.db) == set(late)
    assert _remaining(world) == 0


def test_a_mark_is_a_new_version_with_its_time_and_its_event(world: World) -> None:
    [task_id] = add_tasks(world.db, world.home, 1, due_at=LONG_AGO)
    before = world.tasks.get(world.ann, task_id).value
    _batch(world)
    after = world.tasks.get(world.ann, task_id).value
    assert after["version"] == 2
    assert after["overdue_at"] == after["updated_at"] != before["updated_at"]
    with world.db.read() as session:
        [told] = session.scalars(select(Outbox)).all()
    assert (told.kind, told.subject_id, told.project_id) == (EVENT, task_id, world.home)
    assert told.payload == {"due_at": before["due_at"], "overdue_at": after["overdue_at"]}
    assert told.done_at is None


def test_a_second_sweep_marks_and_tells_nothing(world: World) -> None:
    add_tasks(world.db, world.home, 3, due_at=LONG_AGO)
    _batch(world)
    assert _batch(world) == Batch(rows=0, note=None)
    assert column(world.db, Task.version) == [2, 2, 2]
    assert rows_in(world.db, Outbox) == 3


def test_a_batch_takes_the_longest_overdue_first_and_no_more_than_its_limit(
    world: World,
) -> None:
    by_age = [
        add_tasks(world.db, world.home, 1, due_at=LONG_AGO + timedelta(days=day))[0]
        for day in (3, 1, 4, 2)
    ]
    assert _batch(world, 2).rows == 2
    assert _marked(world.db) == {by_age[1], by_age[3]}
    assert _remaining(world) == 1
    assert _batch(world, 3).rows == 2


def test_a_batch_that_is_undone_leaves_no_mark_and_no_event(world: World) -> None:
    add_tasks(world.db, world.home, 3, due_at=LONG_AGO)
    with world.db.read() as session:
        assert world.sweep.run_batch(session, limit=10).rows == 3
    assert _marked(world.db) == set()
    assert rows_in(world.db, Outbox) == 0
    assert _remaining(world) == 1


def test_a_task_that_is_due_anew_is_marked_anew(world: World) -> None:
    [task_id] = add_tasks(world.db, world.home, 1, due_at=LONG_AGO)
    _batch(world)
    later = LONG_AGO + timedelta(days=1)
    world.tasks.patch(world.ann, task_id, version=2, changes={"due_at": later})
    assert _batch(world).rows == 1
    assert rows_in(world.db, Outbox) == 2


def test_every_project_of_a_batch_is_forgotten_by_the_caches(world: World) -> None:
    other = add_project(world.db, world.bob, "Other")
    for project_id in (world.home, other):
        add_tasks(world.db, project_id, 2, due_at=LONG_AGO)
    batch = _batch(world)
    assert batch.note
    assert world.cache.invalidated == []
    world.sweep.tell([batch.note])
    assert sorted(world.cache.invalidated) == sorted(
        (f"project:{project_id}", (LISTS, EVERY_TASK)) for project_id in (world.home, other)
    )


def test_four_sweeps_at_once_mark_each_task_exactly_once(world: World) -> None:
    add_tasks(world.db, world.home, 400, due_at=LONG_AGO)
    start = threading.Barrier(4)
    counts: list[int] = []

    def sweep() -> None:
        start.wait(10)
        while rows := _batch(world, 17).rows:
            counts.append(rows)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sum(counts) == 400
    assert column(world.db, Task.version) == [2] * 400
    told = column(world.db, Outbox.subject_id)
    assert len(told) == len(set(told)) == 400


def test_two_open_batches_take_different_tasks(postgres_world: World) -> None:
    world = postgres_world
    add_tasks(world.db, world.home, 20, due_at=LONG_AGO)
    with world.db.write() as one, world.db.write() as two:
        assert world.sweep.run_batch(one, limit=8).rows == 8
        # Were it to wait for the first batch, it would wait for this very block.
        assert world.sweep.run_batch(two, limit=100).rows == 12
    assert column(world.db, Task.version) == [2] * 20
    assert rows_in(world.db, Outbox) == 20


def test_a_task_in_a_users_hands_is_passed_by_and_still_counted(postgres_world: World) -> None:
    world = postgres_world
    held, free = add_tasks(world.db, world.home, 2, due_at=LONG_AGO)
    with world.db.write() as user:
        user.execute(update(Task).where(Task.id == held).values(title="Edited"))
        assert _batch(world).rows == 1
        assert _marked(world.db) == {free}
        assert _remaining(world) == 1
        with pytest.raises(LockBusy):
            _sweep_waiting_20_ms(world)
    assert _batch(world, skip_locked=False).rows == 1
    assert _remaining(world) == 0


def _sweep_waiting_20_ms(world: World) -> None:
    with world.db.write() as session:
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        world.sweep.run_batch(session, limit=10, skip_locked=False)


def test_a_task_that_was_closed_while_the_sweep_waited_is_not_marked(
    postgres_world: World,
) -> None:
    world = postgres_world
    add_tasks(world.db, world.home, 1, due_at=LONG_AGO)
    rows: list[int] = []
    sweep = threading.Thread(target=lambda: rows.append(_batch(world, skip_locked=False).rows))
    with world.db.write() as user:
        user.execute(update(Task).values(status="completed"))
        sweep.start()
        wait_for_a_blocked_backend(world.db)
    sweep.join(30)
    assert rows == [0]
    assert _marked(world.db) == set()


def _statements_of_a_batch(world: World) -> list[tuple[str, Any]]:
    statements: list[tuple[str, Any]] = []
    event.listen(
        world.db.engine,
        "before_cursor_execute",
        lambda _c, _cur, statement, parameters, *_: statements.append((statement, parameters)),
    )
    _batch(world)
    return statements


def test_marks_and_events_are_one_statement_that_no_task_leaves(postgres_world: World) -> None:
    add_tasks(postgres_world.db, postgres_world.home, 30, due_at=LONG_AGO)
    [(statement, parameters)] = _statements_of_a_batch(postgres_world)
    assert "UPDATE tasks" in statement
    assert "INSERT INTO outbox" in statement
    assert UUID not in {type(value) for value in parameters.values()}
    assert rows_in(postgres_world.db, Outbox) == 30


def test_the_sweep_reads_through_the_partial_index(world: World) -> None:
    add_tasks(world.db, world.home, 300, due_at=FAR_AHEAD, status="completed")
    add_tasks(world.db, world.home, 3, due_at=LONG_AGO)
    statements = _statements_of_a_batch(world)
    [(statement, parameters)] = [each for each in statements if "UPDATE tasks" in each[0]]
    explain = "EXPLAIN " if world.db.dialect == "postgresql" else "EXPLAIN QUERY PLAN "
    with world.db.read() as session:
        if world.db.dialect == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = session.connection().exec_driver_sql(explain + statement, parameters)
        assert "ix_tasks_unmarked" in str(plan.all())
