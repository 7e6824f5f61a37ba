"""Projects are their owner's: seen, changed and deleted by nobody else."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from app.db.models import Project, Task, TaskLabel
from app.errors import InvalidInput, NotFound, PreconditionFailed
from app.services.ports import EVERY_TASK, LISTS
from app.services.task_rules import NewTask
from tests.services.conftest import World
from tests.support.database import add_project, column, rows_in


def test_a_project_begins_at_version_1_and_reads_back_as_created(world: World) -> None:
    made = world.projects.create(world.ann, name="  Garden ", description=" as is ")
    assert (made["name"], made["description"], made["version"]) == ("Garden", " as is ", 1)
    assert made["created_at"].endswith("Z")
    assert world.projects.get(world.ann, UUID(made["id"])) == made


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "nul\x00"])
def test_a_name_out_of_bounds_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.projects.create(world.ann, name=name)
    assert [error.field for error in refused.value.errors] == ["name"]
    assert column(world.db, Project.name) == ["Home"]


def test_another_accounts_project_is_not_there_and_nothing_changes(world: World) -> None:
    before = world.projects.get(world.ann, world.home)
    with pytest.raises(NotFound):
        world.projects.get(world.bob, world.home)
    with pytest.raises(NotFound):
        world.projects.patch(world.bob, world.home, version=1, changes={"name": "Mine"})
    with pytest.raises(NotFound):
        world.projects.delete(world.bob, world.home, version=1)
    assert world.projects.list(world.bob, cursor=None, limit=10)["items"] == []
    assert world.projects.get(world.ann, world.home) == before


def test_a_project_that_never_was_is_told_like_another_accounts(world: World) -> None:
    with pytest.raises(NotFound) as never:
        world.projects.get(world.bob, uuid4())
    with pytest.raises(NotFound) as anothers:
        world.projects.get(world.bob, world.home)
    assert str(never.value) == str(anothers.value)


def test_a_patch_needs_the_current_version(world: World) -> None:
    first = world.projects.patch(world.ann, world.home, version=1, changes={"name": "House"})
    assert (first["name"], first["version"]) == ("House", 2)
    with pytest.raises(PreconditionFailed):
        world.projects.patch(world.ann, world.home, version=1, changes={"name": "Late"})
    assert world.projects.get(world.ann, world.home) == first


def test_a_patch_that_changes_nothing_keeps_the_version(world: World) -> None:
    before = world.projects.get(world.ann, world.home)
    same = world.projects.patch(world.ann, world.home, version=1, changes={"name": "Home"})
    assert same == before
    assert world.projects.patch(world.ann, world.home, version=1, changes={}) == before


def test_a_patch_cannot_set_anything_else(world: World) -> None:
    changes = {"owner_id": world.bob.account_id, "version": 9}
    with pytest.raises(InvalidInput) as refused:
        world.projects.patch(world.ann, world.home, version=1, changes=changes)
    assert [error.field for error in refused.value.errors] == ["owner_id", "version"]


def test_a_delete_takes_the_tasks_along_and_forgets_what_was_cached(world: World) -> None:
    kept = add_project(world.db, world.ann, "Kept")
    for project_id in (world.home, kept):
        world.tasks.create(world.ann, project_id, NewTask(title="x", labels=("a", "b")))
    world.cache.invalidated.clear()
    with pytest.raises(PreconditionFailed):
        world.projects.delete(world.ann, world.home, version=2)
    assert world.cache.invalidated == []
    world.projects.delete(world.ann, world.home, version=1)
    assert world.cache.invalidated == [(f"project:{world.home}", (LISTS, EVERY_TASK))]
    assert column(world.db, Task.project_id) == [kept]
    assert rows_in(world.db, TaskLabel) == 2


def test_pages_hold_every_project_once_and_the_last_has_no_cursor(world: World) -> None:
    made = [world.home] + [add_project(world.db, world.ann, f"P{n}") for n in range(6)]
    add_project(world.db, world.bob, "Other")
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = world.projects.list(world.ann, cursor=cursor, limit=3)
        seen += [project["id"] for project in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == [str(project_id) for project_id in made]
