"""Imports: the whole file or nothing, and every bad row named."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from app.db.models import Task, TaskLabel
from app.errors import InvalidInput, NotFound
from app.services import task_csv
from app.services.ports import EVERY_TASK, LISTS
from app.services.task_query import TaskQuery
from tests.services.conftest import World
from tests.support.child import ROOT
from tests.support.database import rows_in

DEMO = ROOT / "demo" / "tasks.csv"
HEADER = "title,description,priority,due date,labels\n"


def _import(world: World, text: str) -> int:
    report = world.imports.import_csv(world.ann, world.home, text.splitlines(keepends=True))
    return report["imported"]


def _complaints(world: World, text: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as refused:
        _import(world, text)
    assert rows_in(world.db, Task) == rows_in(world.db, TaskLabel) == 0
    assert world.cache.invalidated == []
    return [(error.field, error.message) for error in refused.value.errors]


def test_good_rows_become_tasks_in_the_files_order(world: World) -> None:
    text = (
        HEADER
        + 'Buy milk,"2 l, fresh",HIGH,2024-03-01,shop;home\n'
        + "\n"
        + 'Call "Ö",,,2030-01-31T17:00:00+02:00,\n'
        + '"Two\nlines","first\nsecond",low,2030-01-31 08:30,home\n'
    )
    assert _import(world, text) == 3
    tasks = world.tasks.list(world.ann, world.home, TaskQuery()).value["items"]
    assert [task["title"] for task in tasks] == ["Buy milk", 'Call "Ö"', "Two\nlines"]
    assert [task["priority"] for task in tasks] == ["high", "medium", "low"]
    assert [task["due_at"] for task in tasks] == [
        "2024-03-01T23:59:59Z",
        "2030-01-31T15:00:00Z",
        "2030-01-31T08:30:00Z",
    ]
    assert [task["labels"] for task in tasks] == [["home", "shop"], [], ["home"]]
    assert [task["description"] for task in tasks] == ["2 l, fresh", "", "first\nsecond"]
    assert {task["status"] for task in tasks} == {"pending"}
    assert world.cache.invalidated == [(f"project:{world.home}", (LISTS, EVERY_TASK))]


def test_every_bad_row_is_named_with_its_line_and_column_and_none_is_stored(world: World) -> None:
    text = (
        "Title,Notes,Priority,Due Date,Tags\n"
        "Good,,,,\n"
        ",,huge,31/12/2024,\n"
        '"Two\nlines",,,,\n'
        f"Long,,,2024-02-30,{'x' * 51}\n"
        "Short,,\n"
        f"{'x' * 501},,,,\n"
    )
    assert _complaints(world, text) == [
        ("line 3, Due Date", "must be a date such as 2030-01-31 or 2030-01-31T17:00:00Z"),
        ("line 3, Title", "must have 1 to 500 characters"),
        ("line 3, Priority", "must be one of low, medium, high, urgent"),
        ("line 6, Due Date", "must be a date such as 2030-01-31 or 2030-01-31T17:00:00Z"),
        ("line 6, Tags", "each label must have 1 to 50 characters"),
        ("line 7", "has 3 values for 5 columns"),
        ("line 8, Title", "must have 1 to 500 characters"),
    ]


def test_the_summary_counts_bad_rows_and_not_their_errors(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"^2 bad rows; nothing was imported"):
        _import(world, HEADER + ",,huge,,\nGood,,,,\n,,huge,,\n")


def test_one_bad_row_at_the_end_of_many_keeps_all_of_them_out(world: World) -> None:
    rows = "".join(f"Task {number},,,,a\n" for number in range(1_200))
    assert len(_complaints(world, f"{HEADER}{rows}Bad,,huge,,\n")) == 1
    assert _import(world, HEADER + rows) == 1_200
    assert rows_in(world.db, TaskLabel) == 1_200


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HEADER + 'Good,,,,\n"never closed,,,,\n', "line 3"),
        (HEADER + 'Bad "quote" after,,,,\n"x"y,,,,\n', "line 3"),
        (HEADER + f"Huge,{'x' * 200_000},,,\n", "line 2"),
    ],
)
def test_what_is_no_csv_is_named_by_its_line(world: World, text: str, place: str) -> None:
    assert place in [field for field, _ in _complaints(world, text)]


def test_nul_and_broken_text_are_refused_rather_than_failing_in_the_database(
    world: World,
) -> None:
    complaints = _complaints(world, HEADER + "a\x00b,,,,\n" + "\ud800,,,,\n" + "x,,,,a\x00\n")
    assert [field for field, _ in complaints] == [
        "line 2, title",
        "line 3, title",
        "line 4, labels",
    ]


@pytest.mark.parametrize(
    "header",
    [
        "CONTENT,NOTES,PRIORITY,DUE_AT,TAGS",
        "Task Name,Description,Priority,Due-Date,Label",
        "\ufeffsummary,details,importance,Deadline,labels",
        " Name , Note ,priority, date ,tag",
    ],
)
def test_the_headers_of_other_apps_are_understood(world: World, header: str) -> None:
    assert _import(world, f"{header}\nA,b,urgent,2024-01-01,x\n") == 1
    [task] = world.tasks.list(world.ann, world.home, TaskQuery()).value["items"]
    assert (task["title"], task["description"], task["priority"]) == ("A", "b", "urgent")
    assert (task["due_at"], task["labels"]) == ("2024-01-01T23:59:59Z", ["x"])


def test_columns_in_another_order_and_unknown_ones_do_no_harm(world: World) -> None:
    lines = ["Type,Labels,Title,Author\n", "task,x,A,ann\n"]
    report = world.imports.import_csv(world.ann, world.home, lines)
    assert report == {"imported": 1, "ignored_columns": ["Type", "Author"]}


@pytest.mark.parametrize("text", ["", "\n\n", "description,labels\na,b\n", "title,name\na,b\n"])
def test_without_a_usable_header_nothing_is_read(world: World, text: str) -> None:
    assert [field for field, _ in _complaints(world, text)] == ["line 1"]


def test_a_header_alone_imports_nothing_and_is_no_error(world: World) -> None:
    assert _import(world, HEADER) == 0


def test_a_file_that_is_too_long_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_csv, "ROWS_MAX", 3)
    assert _complaints(world, HEADER + "x,,,,\n" * 4) == []
    assert _import(world, HEADER + "x,,,,\n" * 3) == 3


def test_nobody_imports_into_anothers_project(world: World) -> None:
    for project_id in (world.home, uuid4()):
        with pytest.raises(NotFound):
            world.imports.import_csv(world.bob, project_id, [HEADER, "x,,,,\n"])
    assert rows_in(world.db, Task) == 0


# --- the demo's file --------------------------------------------------------------


def _demo_lines() -> list[str]:
    with Path(DEMO).open(encoding="utf-8", newline="") as file:
        return file.readlines()


def test_the_demo_imports_1000_tasks_of_which_200_are_overdue(world: World) -> None:
    report = world.imports.import_csv(world.ann, world.home, _demo_lines())
    stats = world.stats.project(world.ann, world.home).value
    assert report == {"imported": 1_000, "ignored_columns": []}
    assert (stats["total"], stats["open"], stats["overdue"]) == (1_000, 1_000, 200)
    assert all(stats["by_priority"].values())


def test_the_demo_is_due_in_2024_and_2025_in_2099_or_never() -> None:
    rows = list(csv.DictReader(_demo_lines()))
    years = [row["due date"][:4] for row in rows]
    assert len(rows) == 1_000
    assert years.count("2024") + years.count("2025") == 200
    assert set(years) == {"2024", "2025", "2099", ""}
    assert 450 <= years.count("") <= 550
    assert datetime(2026, 1, 1, tzinfo=UTC) < datetime.now(UTC)


def test_the_demo_has_what_real_exports_have() -> None:
    rows = list(csv.DictReader(_demo_lines()))
    assert any("," in row["title"] for row in rows)
    assert any("\n" in row["description"] for row in rows)
    assert any('"' in row["description"] for row in rows)
    assert any(not row["description"] for row in rows)
    assert any(";" in row["labels"] for row in rows)
    assert any(not row["title"].isascii() for row in rows)
    assert len({row["title"] for row in rows}) > 900
