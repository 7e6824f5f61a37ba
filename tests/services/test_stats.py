"""Counts of a project, by status, priority and lateness."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.errors import NotFound
from tests.services.conftest import World
from tests.support.database import FAR_AHEAD, LONG_AGO, add_project, add_tasks


def test_every_task_is_counted_once_in_each_way(world: World) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    add_tasks(world.db, world.home, 3, due_at=LONG_AGO, priority="urgent")
    add_tasks(world.db, world.home, 2, due_at=LONG_AGO, status="in_progress", overdue_at=soon)
    add_tasks(world.db, world.home, 4, due_at=LONG_AGO, status="completed", priority="low")
    add_tasks(world.db, world.home, 1, due_at=soon, status="cancelled")
    add_tasks(world.db, world.home, 6, due_at=soon)
    add_tasks(world.db, world.home, 7, due_at=FAR_AHEAD)
    add_tasks(world.db, world.home, 5)
    add_tasks(world.db, add_project(world.db, world.ann, "Other"), 9)
    assert world.stats.project(world.ann, world.home).value == {
        "total": 28,
        "open": 23,
        "overdue": 5,
        "due_in_7_days": 6,
        "by_status": {"pending": 21, "in_progress": 2, "completed": 4, "cancelled": 1},
        "by_priority": {"low": 4, "medium": 21, "high": 0, "urgent": 3},
    }


def test_an_empty_project_counts_nothing_under_every_word(world: World) -> None:
    stats = world.stats.project(world.ann, world.home).value
    assert set(stats["by_status"].values()) == set(stats["by_priority"].values()) == {0}
    assert len(stats["by_status"]) == len(stats["by_priority"]) == 4
    assert (stats["total"], stats["open"], stats["overdue"]) == (0, 0, 0)


def test_another_accounts_project_counts_nothing_and_is_not_there(world: World) -> None:
    add_tasks(world.db, world.home, 1)
    with pytest.raises(NotFound):
        world.stats.project(world.bob, world.home)
    with pytest.raises(NotFound):
        world.stats.project(world.ann, uuid4())
