"""Lists of tasks: filters, and cursors that neither skip nor repeat."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from app.errors import InvalidInput
from app.services.cursors import decode_cursor, encode_cursor
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask
from app.services.views import TaskView
from tests.services.conftest import World
from tests.support.database import FAR_AHEAD, LONG_AGO, add_project, add_tasks

Order = Literal["created", "-created"]


def _walk(world: World, **query: Any) -> list[list[TaskView]]:
    """Every page of a list, from the first to the one without a cursor."""
    pages: list[list[TaskView]] = []
    cursor: str | None = None
    while True:
        page = world.tasks.list(world.ann, world.home, TaskQuery(cursor=cursor, **query)).value
        pages.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return pages


def _titles(world: World, **query: Any) -> set[str]:
    return {task["title"] for page in _walk(world, **query) for task in page}


@pytest.mark.parametrize("order", ["created", "-created"])
def test_pages_hold_every_task_once_in_order(world: World, order: Order) -> None:
    made = [str(task_id) for task_id in add_tasks(world.db, world.home, 23)]
    add_tasks(world.db, add_project(world.db, world.ann, "Other"), 5)
    pages = _walk(world, order=order, limit=10)
    assert [len(page) for page in pages] == [10, 10, 3]
    seen = [task["id"] for page in pages for task in page]
    assert seen == (made if order == "created" else made[::-1])


def test_a_last_page_that_is_just_full_has_no_cursor(world: World) -> None:
    add_tasks(world.db, world.home, 20)
    assert [len(page) for page in _walk(world, limit=10)] == [10, 10]


def test_an_empty_project_has_one_empty_page(world: World) -> None:
    assert _walk(world) == [[]]


@pytest.mark.parametrize("order", ["created", "-created"])
def test_inserts_and_deletes_between_pages_neither_skip_nor_repeat(
    world: World, order: Order
) -> None:
    made = add_tasks(world.db, world.home, 40)
    seen: list[str] = []
    deleted: set[str] = set()
    cursor: str | None = None
    while True:
        query = TaskQuery(order=order, limit=5, cursor=cursor)
        page = world.tasks.list(world.ann, world.home, query).value
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        add_tasks(world.db, world.home, 2 if order == "-created" else 0)
        # The page's last row, whose key the cursor carries, and one that is still to come.
        for victim in (seen[-1], _still_to_come(made, {*seen, *deleted}, order)):
            if victim is not None:
                world.tasks.delete(world.ann, UUID(victim), version=1)
                deleted.add(victim)
    assert len(seen) == len(set(seen))
    assert set(seen) | deleted == {str(task_id) for task_id in made}


def _still_to_come(made: list[UUID], past: set[str], order: Order) -> str | None:
    left = [str(task_id) for task_id in made if str(task_id) not in past]
    if not left:
        return None
    return left[0] if order == "created" else left[-1]


def test_tasks_added_during_a_walk_in_order_of_creation_are_seen(world: World) -> None:
    add_tasks(world.db, world.home, 10)
    first = world.tasks.list(world.ann, world.home, TaskQuery(limit=5)).value
    late = add_tasks(world.db, world.home, 1)
    rest = TaskQuery(limit=50, cursor=first["next_cursor"])
    page = world.tasks.list(world.ann, world.home, rest).value
    assert len(page["items"]) == 6
    assert page["items"][-1]["id"] == str(late[0])


def test_each_filter_keeps_just_what_it_says(world: World) -> None:
    _some_of_each(world)
    everything = {"late", "late done", "soon", "marked", "never"}
    assert _titles(world) == everything
    assert _titles(world, status="pending") == {"late", "soon", "marked"}
    assert _titles(world, status="completed") == {"late done"}
    assert _titles(world, priority="urgent") == {"late"}
    assert _titles(world, overdue=True) == {"late", "marked"}
    assert _titles(world, overdue=False) == {"late done", "soon", "never"}
    assert _titles(world, due_before=FAR_AHEAD) == {"late", "late done", "marked"}
    assert _titles(world, due_after=FAR_AHEAD) == {"soon"}
    assert _titles(world, due_after=LONG_AGO, due_before=LONG_AGO) == set()
    assert _titles(world, overdue=True, priority="urgent", status="pending") == {"late"}


def _some_of_each(world: World) -> None:
    add_tasks(world.db, world.home, 1, title="late", due_at=LONG_AGO, priority="urgent")
    add_tasks(world.db, world.home, 1, title="late done", due_at=LONG_AGO, status="completed")
    add_tasks(world.db, world.home, 1, title="soon", due_at=FAR_AHEAD)
    add_tasks(world.db, world.home, 1, title="never", status="in_progress")
    marked = {"due_at": LONG_AGO, "overdue_at": datetime.now(UTC)}
    add_tasks(world.db, world.home, 1, title="marked", **marked)


def test_a_page_takes_two_statements_whatever_its_length(world: World) -> None:
    for number in range(30):
        labels = (f"label-{number}", "all")
        world.tasks.create(world.ann, world.home, NewTask(title="x", labels=labels))
    statements: list[str] = []
    event.listen(
        world.db.engine,
        "before_cursor_execute",
        lambda _c, _cur, statement, *_: statements.append(statement),
    )
    page = world.tasks.list(world.ann, world.home, TaskQuery(limit=30)).value
    assert [len(task["labels"]) for task in page["items"]] == [2] * 30
    assert len([each for each in statements if not each.startswith("BEGIN")]) == 2


def test_lists_go_through_the_cache_and_its_key_names_the_reader_and_the_query(
    world: World,
) -> None:
    world.tasks.list(world.ann, world.home, TaskQuery())
    assert world.cache.loads == 1
    query = TaskQuery(due_before=FAR_AHEAD)
    keys = {
        query.key(world.ann.account_id),
        query.key(world.bob.account_id),
        TaskQuery().key(world.ann.account_id),
        TaskQuery(limit=49).key(world.ann.account_id),
    }
    assert len(keys) == 4
    elsewhere = FAR_AHEAD.astimezone(datetime.now().astimezone().tzinfo)
    assert TaskQuery(due_before=elsewhere).key(world.ann.account_id) in keys


def test_a_page_has_one_key_however_its_cursor_is_written(world: World) -> None:
    last = uuid4()
    plain = encode_cursor("created", last)
    spaced = json.dumps(["created", str(last).upper()]).replace(",", "," + " " * 3_000)
    long = base64.urlsafe_b64encode(spaced.encode()).decode().rstrip("=")
    keys = [TaskQuery(cursor=each).key(world.ann.account_id) for each in (plain, long)]
    assert len(long) > 4_000
    assert keys[0] == keys[1] != TaskQuery().key(world.ann.account_id)
    assert str(last) in keys[0]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "é",
        "a",
        "AAAA",
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["created", 5]').decode(),
        base64.urlsafe_b64encode(b'["created", "x"]').decode(),
        base64.urlsafe_b64encode(json.dumps({"created": "x"}).encode()).decode(),
        encode_cursor("-created", UUID(int=1)),
        encode_cursor("created", UUID(int=1)) + "x",
    ],
)
def test_any_other_text_is_refused_as_a_cursor(cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TaskQuery(cursor=cursor)
    assert [error.field for error in refused.value.errors] == ["cursor"]


def test_a_cursor_holds_the_last_rows_key() -> None:
    last = uuid4()
    assert decode_cursor(encode_cursor("created", last), order="created") == last


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", 201),
        ("status", "done"),
        ("priority", "huge"),
        ("order", "title"),
        ("due_before", datetime(2030, 1, 1)),
        ("due_after", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_query_out_of_bounds_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        TaskQuery(**{field: value})
    assert [error.field for error in refused.value.errors] == [field]
