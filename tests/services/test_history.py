"""The history of a task: every version that somebody made, and what it changed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.db.enums import MemberRole
from app.db.models import Account, Task, TaskHistory
from app.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from app.services import tasks
from app.services.cursors import encode_cursor
from app.services.ports import stale_task
from app.services.task_rules import NewTask
from app.services.views import ChangeView, TaskView
from tests.services.conftest import World
from tests.support.database import FAR_AHEAD, LONG_AGO, add_member, rows_in


def created(world: World, **fields: Any) -> UUID:
    view = world.tasks.create(world.ann, world.home, NewTask(**{"title": "Paint", **fields}))
    return UUID(view["id"])


def history(world: World, task_id: UUID) -> list[ChangeView]:
    return world.history.list(world.ann, task_id, cursor=None, limit=200)["items"]


def patched(world: World, task_id: UUID, version: int, **changes: Any) -> TaskView:
    return world.tasks.patch(world.ann, task_id, version=version, changes=changes)


def test_a_change_says_who_what_when_from_and_to(world: World) -> None:
    add_member(world.db, world.home, world.bob, MemberRole.EDITOR)
    task_id = created(world, labels=("b",), due_at=LONG_AGO)
    changes = {"title": "Paint it", "labels": ["c", "a"], "due_at": FAR_AHEAD, "priority": "high"}
    after = world.tasks.patch(world.bob, task_id, version=1, changes=changes)
    second, first = history(world, task_id)
    assert (first["action"], first["version"], first["changes"]) == ("created", 1, [])
    assert first["account_id"] == str(world.ann.account_id)
    assert (second["action"], second["version"]) == ("changed", 2)
    assert second["account_id"] == str(world.bob.account_id)
    assert second["created_at"] == after["updated_at"]
    assert second["changes"] == [
        {"field": "title", "from": "Paint", "to": "Paint it"},
        {"field": "due_at", "from": "2024-05-01T12:00:00Z", "to": "2099-05-01T12:00:00Z"},
        {"field": "priority", "from": "medium", "to": "high"},
        {"field": "labels", "from": ["b"], "to": ["a", "c"]},
    ]


def test_what_changes_nothing_or_is_refused_leaves_no_trace(world: World) -> None:
    task_id = created(world)
    patched(world, task_id, 1, title="Paint")
    world.tasks.reopen(world.ann, task_id)
    with pytest.raises(PreconditionFailed):
        patched(world, task_id, 9, title="x")
    with pytest.raises(NotFound):
        world.tasks.complete(world.bob, task_id)
    assert [change["version"] for change in history(world, task_id)] == [1]


def test_completing_and_reopening_follow_the_status_and_say_so(world: World) -> None:
    task_id = created(world)
    done = world.tasks.complete(world.ann, task_id)
    assert (done["status"], done["version"]) == ("completed", 2)
    assert done["completed_at"] == done["updated_at"]
    assert world.tasks.complete(world.ann, task_id) == done
    back = world.tasks.reopen(world.ann, task_id)
    assert (back["status"], back["completed_at"], back["version"]) == ("pending", None, 3)
    assert [change["action"] for change in history(world, task_id)] == [
        *("reopened", "completed", "created"),
    ]


def test_an_answer_that_shows_anothers_change_makes_the_caches_forget_what_was_before(
    world: World,
) -> None:
    """Who made it may have died before telling them."""
    task_id = created(world, status="cancelled")
    world.cache.invalidated.clear()
    world.tasks.reopen(world.ann, task_id)
    world.tasks.reopen(world.ann, task_id)
    patched(world, task_id, 2, status="cancelled")
    with pytest.raises(Conflict):
        world.tasks.complete(world.ann, task_id)
    tags = stale_task(world.home, task_id).tags
    assert world.cache.invalidated == [(f"project:{world.home}", tags)] * 4


def test_a_cancelled_task_is_reopened_before_it_is_completed(world: World) -> None:
    task_id = created(world, status="cancelled")
    with pytest.raises(Conflict):
        world.tasks.complete(world.ann, task_id)
    assert world.tasks.reopen(world.ann, task_id)["status"] == "pending"
    assert world.tasks.complete(world.ann, task_id)["status"] == "completed"


def test_the_sweeps_mark_is_in_the_history_once_a_change_takes_it_away(world: World) -> None:
    task_id = created(world, due_at=LONG_AGO)
    with world.db.write() as session:
        assert world.sweep.run_batch(session, limit=10).rows == 1
    marked = world.tasks.get(world.ann, task_id).value
    assert (marked["overdue"], marked["overdue_at"] is None) == (True, False)
    done = world.tasks.complete(world.ann, task_id)
    assert (done["overdue"], done["overdue_at"], done["version"]) == (False, None, 3)
    newest, first = history(world, task_id)
    assert [first["version"], newest["version"]] == [1, 3]
    assert newest["changes"] == [
        {"field": "status", "from": "pending", "to": "completed"},
        {"field": "overdue_at", "from": marked["overdue_at"], "to": None},
    ]


def test_pages_go_by_versions_and_neither_skip_nor_repeat(world: World) -> None:
    task_id = created(world)
    for version in range(1, 7):
        patched(world, task_id, version, title=f"Title {version}")
    seen: list[int] = []
    cursor: str | None = None
    for version in range(7, 10):
        page = world.history.list(world.ann, task_id, cursor=cursor, limit=3)
        seen += [change["version"] for change in page["items"]]
        cursor = page["next_cursor"]
        patched(world, task_id, version, title="Later" * version)
    assert (seen, cursor) == ([7, 6, 5, 4, 3, 2, 1], None)


@pytest.mark.parametrize(
    "cursor", ["", "x", encode_cursor("-version", UUID(int=1)), encode_cursor("created", 1)]
)
def test_a_cursor_of_another_list_is_refused(world: World, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        world.history.list(world.ann, created(world), cursor=cursor, limit=3)
    assert [error.field for error in refused.value.errors] == ["cursor"]


@pytest.mark.parametrize("version", [-1, 2**31, 10**40])
def test_a_version_that_cannot_be_is_refused_rather_than_asked_for(
    sqlite_world: World, version: int
) -> None:
    world, cursor = sqlite_world, encode_cursor("-version", version)
    task_id = created(world)
    with pytest.raises(InvalidInput):
        world.history.list(world.ann, task_id, cursor=cursor, limit=3)


def test_the_history_goes_with_its_task_and_outlives_who_made_it(world: World) -> None:
    add_member(world.db, world.home, world.bob, MemberRole.EDITOR)
    kept, gone = created(world), created(world)
    world.tasks.patch(world.bob, kept, version=1, changes={"title": "By Bob"})
    world.tasks.delete(world.ann, gone, version=1)
    with world.db.write() as session:
        session.delete(session.get_one(Account, world.bob.account_id))
    assert [change["account_id"] for change in history(world, kept)] == [
        *(None, str(world.ann.account_id)),
    ]
    assert rows_in(world.db, TaskHistory) == 2
    with pytest.raises(NotFound):
        history(world, gone)


def test_a_change_that_is_undone_has_no_history(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = created(world)
    monkeypatch.setattr(tasks, "stale_task", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        patched(world, task_id, 1, title="x")
    assert [change["version"] for change in history(world, task_id)] == [1]
    assert world.tasks.get(world.ann, task_id).value["version"] == 1


def test_an_import_writes_who_created_each_task(world: World) -> None:
    world.imports.import_csv(world.ann, world.home, ["title\n", "a\n", "b\n"])
    assert rows_in(world.db, Task) == rows_in(world.db, TaskHistory) == 2


def test_a_mark_in_the_middle_of_a_change_is_a_version_of_its_own(world: World) -> None:
    """A patch that was based on what the sweep has since marked is refused, not merged."""
    task_id = created(world, due_at=LONG_AGO)
    with world.db.write() as session:
        session.execute(update(Task).values(overdue_at=datetime.now(UTC), version=2))
    with pytest.raises(PreconditionFailed):
        patched(world, task_id, 1, title="x")
