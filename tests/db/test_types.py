"""Moments, identifiers and the database's clock are the same on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError

from app.db.engine import Database
from app.db.models import Task
from app.db.types import db_now, db_now_ms, new_id
from tests.support.database import add_account, add_project, add_tasks, column

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _due_after_storing(database: Database, due_at: datetime | None) -> datetime | None:
    project_id = add_project(database, add_account(database))
    [task_id] = add_tasks(database, project_id, 1, due_at=due_at)
    with database.read() as session:
        return session.scalar(select(Task.due_at).where(Task.id == task_id))


def test_a_moment_comes_back_in_utc_with_its_microseconds(database: Database) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    stored = _due_after_storing(database, datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=nepal))
    assert stored == datetime(2029, 12, 31, 18, 15, 0, 123456, tzinfo=UTC)
    assert stored.utcoffset() == timedelta(0)


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_the_first_and_the_last_moment_come_back(database: Database, moment: datetime) -> None:
    wanted = moment.replace(tzinfo=UTC)
    assert _due_after_storing(database, wanted) == wanted


def test_no_moment_comes_back_as_none(database: Database) -> None:
    assert _due_after_storing(database, None) is None


def test_a_naive_moment_is_refused_before_it_reaches_the_database(database: Database) -> None:
    with pytest.raises(StatementError, match="needs a time zone"):
        _due_after_storing(database, datetime(2030, 1, 1))
    assert column(database, Task.id) == []


def test_the_two_database_clocks_agree_to_a_second_and_move_on(database: Database) -> None:
    with database.read() as session:
        first_ms = session.scalar(select(db_now_ms()))
        now = session.scalar(select(db_now()))
    with database.read() as session:
        later_ms = session.scalar(select(db_now_ms()))
    assert first_ms is not None
    assert later_ms is not None
    assert now is not None
    assert now.utcoffset() == timedelta(0)
    assert abs((now - EPOCH).total_seconds() * 1000 - first_ms) < 1_000
    assert later_ms >= first_ms


@pytest.mark.parametrize(("seconds", "late"), [(-60, True), (60, False)])
def test_the_databases_clock_compares_with_stored_moments(
    database: Database, seconds: int, late: bool
) -> None:
    project_id = add_project(database, add_account(database))
    add_tasks(database, project_id, 1, due_at=datetime.now(UTC) + timedelta(seconds=seconds))
    with database.read() as session:
        assert session.scalar(select(Task.due_at < db_now())) is late


def test_ids_rise_and_the_databases_sort_them_alike(database: Database) -> None:
    made = [new_id() for _ in range(1_000)]
    assert made == sorted(made)
    assert made[0].version == 7
    project_id = add_project(database, add_account(database))
    task_ids = add_tasks(database, project_id, 100)
    assert column(database, Task.id) == task_ids
