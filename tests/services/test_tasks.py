"""Tasks: scoping, optimistic locking, and what follows from a change."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, text, update

from app.db.models import Project, Task, TaskLabel
from app.db.queries import kept_project
from app.errors import InvalidInput, LockBusy, NotFound, PreconditionFailed
from app.services.ports import stale_task
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask
from app.services.views import TaskView
from tests.services.conftest import World
from tests.support.database import FAR_AHEAD, LONG_AGO, column, rows_in, wait_for_a_blocked_backend


def _create(world: World, **fields: Any) -> TaskView:
    return world.tasks.create(world.ann, world.home, NewTask(**{"title": "Paint", **fields}))


def _patch(world: World, task: TaskView, **changes: Any) -> TaskView:
    return world.tasks.patch(world.ann, UUID(task["id"]), version=task["version"], changes=changes)


def _mark(world: World, task: TaskView) -> TaskView:
    """As the sweep does."""
    with world.db.write() as session:
        session.execute(update(Task).values(overdue_at=datetime.now(UTC)))
    return world.tasks.get(world.ann, UUID(task["id"])).value


def test_a_task_reads_back_as_created(world: World) -> None:
    due_at = datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    made = _create(
        world,
        title="  Paint the fence ",
        description="twice\n",
        priority="high",
        due_at=due_at,
        labels=("wood", " garden", "wood"),
        assignee_id=world.ann.account_id,
    )
    assert world.tasks.get(world.ann, UUID(made["id"])).value == made
    assert made["title"] == "Paint the fence"
    assert made["labels"] == ["garden", "wood"]
    assert made["due_at"] == "2029-12-31T23:00:00Z"
    assert (made["status"], made["version"]) == ("pending", 1)
    assert made["assignee_id"] == str(world.ann.account_id)
    assert (made["completed_at"], made["overdue_at"]) == (None, None)


def test_another_account_finds_no_task_and_changes_nothing(world: World) -> None:
    task = _create(world, labels=("a",))
    task_id = UUID(task["id"])
    world.cache.invalidated.clear()
    with pytest.raises(NotFound, match="task"):
        world.tasks.get(world.bob, task_id)
    with pytest.raises(NotFound, match="task"):
        world.tasks.patch(world.bob, task_id, version=1, changes={"title": "Mine"})
    with pytest.raises(NotFound, match="task"):
        world.tasks.delete(world.bob, task_id, version=1)
    with pytest.raises(NotFound, match="project"):
        world.tasks.create(world.bob, world.home, NewTask(title="Mine"))
    with pytest.raises(NotFound, match="project"):
        world.tasks.list(world.bob, world.home, TaskQuery())
    assert world.cache.invalidated == []
    assert world.tasks.get(world.ann, task_id).value == task
    assert rows_in(world.db, Task) == 1


def test_a_wrong_version_of_anothers_task_is_not_found_rather_than_stale(world: World) -> None:
    task_id = UUID(_create(world)["id"])
    with pytest.raises(NotFound):
        world.tasks.patch(world.bob, task_id, version=99, changes={"title": "Mine"})


def test_an_admin_sees_no_more_than_any_account(world: World) -> None:
    view = world.accounts.create(
        email="root@example.com", password="correct horse", name="Root", role="admin"
    )
    session = world.accounts.log_in(email=view["email"], password="correct horse")
    admin = world.accounts.identify(session["token"]).actor
    with pytest.raises(NotFound):
        world.tasks.get(admin, UUID(_create(world)["id"]))


def test_a_task_that_never_was_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.tasks.get(world.ann, uuid4())
    with pytest.raises(NotFound):
        world.tasks.create(world.ann, uuid4(), NewTask(title="x"))


def test_a_stale_version_changes_and_deletes_nothing(world: World) -> None:
    task = _create(world)
    newer = _patch(world, task, title="Newer")
    assert newer["version"] == 2
    with pytest.raises(PreconditionFailed):
        _patch(world, task, title="Stale")
    with pytest.raises(PreconditionFailed):
        world.tasks.delete(world.ann, UUID(task["id"]), version=1)
    assert world.tasks.get(world.ann, UUID(task["id"])).value == newer


def test_of_eight_patches_of_one_version_one_gets_through(world: World) -> None:
    task = _create(world)
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def patch(number: int) -> None:
        start.wait(10)
        try:
            outcomes.append(_patch(world, task, title=f"Writer {number}")["title"])
        except PreconditionFailed:
            outcomes.append("stale")

    threads = [threading.Thread(target=patch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winners = [outcome for outcome in outcomes if outcome != "stale"]
    assert len(winners) == 1
    assert outcomes.count("stale") == 7
    now = world.tasks.get(world.ann, UUID(task["id"])).value
    assert (now["title"], now["version"]) == (winners[0], 2)


def test_a_patch_sets_what_is_given_and_keeps_the_rest(world: World) -> None:
    task = _create(world, description="old", priority="low", labels=("a", "b"))
    changed = _patch(world, task, priority="urgent", labels=["b", "c"], due_at=FAR_AHEAD)
    assert changed["labels"] == ["b", "c"]
    assert (changed["priority"], changed["description"]) == ("urgent", "old")
    assert changed["due_at"] == "2099-05-01T12:00:00Z"
    assert changed["updated_at"] > task["updated_at"]
    assert changed["created_at"] == task["created_at"]
    cleared = _patch(world, changed, due_at=None, labels=[], description="")
    assert (cleared["due_at"], cleared["labels"], cleared["description"]) == (None, [], "")
    assert world.tasks.get(world.ann, UUID(task["id"])).value == cleared
    assert rows_in(world.db, TaskLabel) == 0


def test_labels_alone_make_a_new_version_and_the_same_labels_do_not(world: World) -> None:
    task = _create(world, labels=("a",))
    assert _patch(world, task, labels=["a", "a "])["version"] == 1
    assert _patch(world, task, labels=["b"])["version"] == 2


def test_a_patch_that_changes_nothing_keeps_the_version_and_the_caches(world: World) -> None:
    task = _create(world, labels=("a",))
    world.cache.invalidated.clear()
    assert _patch(world, task, title="Paint", labels=["a"], due_at=None) == task
    assert _patch(world, task) == task
    assert world.cache.invalidated == []


def test_completing_and_reopening_moves_the_time_of_completion(world: World) -> None:
    done = _patch(world, _create(world), status="completed")
    assert done["completed_at"] is not None
    still_done = _patch(world, done, title="Painted")
    assert still_done["completed_at"] == done["completed_at"]
    assert _patch(world, still_done, status="in_progress")["completed_at"] is None


def test_a_task_created_as_completed_says_when(world: World) -> None:
    assert _create(world, status="completed")["completed_at"] is not None


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"title": "Other"}, True),
        ({"status": "in_progress"}, True),
        ({"due_at": LONG_AGO}, True),
        ({"due_at": LONG_AGO + timedelta(days=1)}, False),
        ({"due_at": None}, False),
        ({"status": "completed"}, False),
        ({"status": "cancelled"}, False),
    ],
)
def test_the_mark_of_the_sweep_goes_when_the_due_date_moves_or_the_task_closes(
    world: World, changes: dict[str, Any], kept: bool
) -> None:
    marked = _mark(world, _create(world, due_at=LONG_AGO))
    assert marked["overdue_at"] is not None
    assert (_patch(world, marked, **changes)["overdue_at"] is not None) is kept


def test_each_change_invalidates_its_project_once_after_the_commit(world: World) -> None:
    task = _patch(world, _create(world), title="Other")
    world.tasks.delete(world.ann, UUID(task["id"]), version=2)
    stale = stale_task(world.home, UUID(task["id"]))
    assert world.cache.invalidated == [(f"project:{world.home}", stale.tags)] * 3
    assert column(world.db, Task.id) == []


def test_a_patch_names_every_field_that_cannot_be_taken(world: World) -> None:
    task = _create(world)
    with pytest.raises(InvalidInput) as refused:
        _patch(world, task, title=" ", status="done", priority=None, version=7, due_at="soon")
    fields = [error.field for error in refused.value.errors]
    assert fields == ["title", "status", "priority", "version", "due_at"]
    assert world.tasks.get(world.ann, UUID(task["id"])).value == task


@pytest.mark.parametrize("known", [True, False])
def test_only_who_sees_the_project_can_be_assigned_and_others_are_told_alike(
    world: World, known: bool
) -> None:
    other = world.bob.account_id if known else uuid4()
    task = _create(world)
    with pytest.raises(InvalidInput) as refused:
        _patch(world, task, assignee_id=other)
    with pytest.raises(InvalidInput) as refused_at_creation:
        _create(world, assignee_id=other)
    assert refused.value.errors == refused_at_creation.value.errors
    assert [error.field for error in refused.value.errors] == ["assignee_id"]


def test_a_task_for_a_project_that_is_just_being_deleted_is_told_that_there_is_none(
    postgres_world: World,
) -> None:
    world = postgres_world
    outcomes: list[str] = []

    def create() -> None:
        try:
            outcomes.append(_create(world)["title"])
        except NotFound:
            outcomes.append("not found")

    creating = threading.Thread(target=create)
    with world.db.write() as session:
        session.execute(delete(Project).where(Project.id == world.home))
        creating.start()
        wait_for_a_blocked_backend(world.db)
    creating.join(30)
    assert outcomes == ["not found"]
    assert rows_in(world.db, Task) == 0


def test_a_project_is_not_deleted_under_a_task_that_is_just_being_added(
    postgres_world: World,
) -> None:
    world = postgres_world
    with world.db.write() as adding:
        assert adding.scalar(kept_project(world.ann.account_id, world.home)) is not None
        with pytest.raises(LockBusy):
            _delete_within_20_ms(world)
    world.projects.delete(world.ann, world.home, version=1)


def _delete_within_20_ms(world: World) -> None:
    with world.db.write() as session:
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        session.execute(delete(Project).where(Project.id == world.home))
