"""Deletions whose own answers were lost: what answers not found shows them, and so do the caches.

Each time somebody else's process has deleted and died before it told anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete

from app.coordination.stale import History, Stale
from app.db.models import Project, Task
from app.errors import NotFound
from app.services.ports import EVERY_TASK, LISTS, task_tag
from app.services.task_rules import NewTask
from tests.services.conftest import World


@pytest.fixture
def task_id(world: World) -> UUID:
    """A task of ann's that this process has read."""
    made = UUID(world.tasks.create(world.ann, world.home, NewTask(title="Paint"))["id"])
    world.tasks.get(world.ann, made)
    world.cache.invalidated.clear()
    return made


def delete_task(world: World, id_: UUID) -> None:
    world.tasks.delete(world.ann, id_, version=1)


def patch_task(world: World, id_: UUID) -> None:
    world.tasks.patch(world.ann, id_, version=1, changes={"title": "x"})


def delete_project(world: World, id_: UUID) -> None:
    world.projects.delete(world.ann, id_, version=1)


def patch_project(world: World, id_: UUID) -> None:
    world.projects.patch(world.ann, id_, version=1, changes={"name": "x"})


Change = Callable[[World, UUID], None]


@pytest.mark.parametrize("change", [delete_task, patch_task])
@pytest.mark.parametrize("gone", [Task, Project])
def test_a_task_that_is_not_there_any_more_is_told_to_the_caches(
    world: World, task_id: UUID, change: Change, gone: type[Task | Project]
) -> None:
    with world.db.write() as session:
        session.execute(delete(gone))
    with pytest.raises(NotFound):
        change(world, task_id)
    assert world.cache.invalidated == [(f"project:{world.home}", (LISTS, task_tag(task_id)))]


@pytest.mark.parametrize("change", [delete_project, patch_project])
def test_a_project_that_is_not_there_any_more_is_told_to_the_caches(
    world: World, change: Change
) -> None:
    with world.db.write() as session:
        session.execute(delete(Project))
    with pytest.raises(NotFound):
        change(world, world.home)
    assert world.cache.invalidated == [(f"project:{world.home}", (LISTS, EVERY_TASK))]


def test_nobody_makes_anothers_answers_stale_by_what_is_not_found(
    world: World, task_id: UUID
) -> None:
    with pytest.raises(NotFound):
        world.tasks.delete(world.bob, task_id, version=1)
    with pytest.raises(NotFound):
        world.projects.delete(world.bob, world.home, version=1)
    assert world.cache.invalidated == []


def test_a_task_of_which_nothing_is_known_is_told_to_nobody(world: World) -> None:
    with pytest.raises(NotFound):
        delete_task(world, uuid4())
    assert world.cache.invalidated == []


def by_itself(world: World, id_: UUID) -> None:
    delete_task(world, id_)


def within_a_larger_unit(world: World, id_: UUID) -> None:
    world.changes.joined(lambda _session, _notes: delete_task(world, id_))


@pytest.mark.parametrize("change", [by_itself, within_a_larger_unit])
def test_it_is_told_once_the_whole_unit_has_ended(
    world: World, task_id: UUID, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    still_open: list[bool] = []
    told = world.cache.invalidate

    def invalidate(changes: Sequence[Stale]) -> dict[Stale, History | None]:
        still_open.append(world.db.is_joined)
        return told(changes)

    monkeypatch.setattr(world.cache, "invalidate", invalidate)
    with world.db.write() as session:
        session.execute(delete(Task))
    with pytest.raises(NotFound):
        change(world, task_id)
    assert still_open == [False]
