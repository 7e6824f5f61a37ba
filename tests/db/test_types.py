"""Moments, identifiers and the database's clock are the same on both databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from random import Random
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from sqlalchemy import insert, literal, null, select, text
from sqlalchemy.exc import StatementError

from app.db.engine import Database
from app.db.models import Outbox, Task
from app.db.types import db_json_object, db_new_id, db_now, db_now_ms, db_rfc3339, new_id
from app.services.views import rfc3339
from tests.support.database import add_account, add_project, add_tasks, column
from tests.support.waiting import eventually

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


# --- made by the database -----------------------------------------------------------------------


def _now_ms(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(db_now_ms())) or 0


def _is_after(database: Database, moment_ms: int) -> bool:
    return _now_ms(database) > moment_ms


def _tell_of_all_tasks(database: Database) -> set[UUID]:
    """One INSERT … SELECT of an event for each task: the new events' identifiers."""
    before = set(column(database, Outbox.id))
    payload = db_json_object(version=Task.version)
    events = select(db_new_id(), literal("test"), Task.id, Task.project_id, payload, db_now())
    names = ["id", "kind", "subject_id", "project_id", "payload", "created_at"]
    with database.write() as session:
        session.execute(insert(Outbox).from_select(names, events))
    return set(column(database, Outbox.id)) - before


def test_the_database_makes_an_identifier_for_each_row_of_a_statement(database: Database) -> None:
    add_tasks(database, add_project(database, add_account(database)), 1_000)
    earliest = _now_ms(database)
    made = _tell_of_all_tasks(database)
    latest = _now_ms(database)
    assert len(made) == 1_000
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    stamps = {each.int >> 80 for each in made}
    assert earliest <= min(stamps) <= max(stamps) <= latest


def test_the_databases_identifiers_rise_from_statement_to_statement(database: Database) -> None:
    add_tasks(database, add_project(database, add_account(database)), 20)
    order = list[UUID]()
    for _ in range(5):
        made = _tell_of_all_tasks(database)
        assert not order or min(made) > max(order)
        order += sorted(made)
        eventually(partial(_is_after, database, _now_ms(database)), what="the next millisecond")
    assert column(database, Outbox.id) == order


def test_an_identifier_of_the_database_and_one_of_the_process_sort_by_time(
    database: Database,
) -> None:
    with database.read() as session:
        made = session.scalar(select(db_new_id()))
    assert isinstance(made, UUID)
    assert abs((made.int >> 80) - (new_id().int >> 80)) < 10_000


def _moments() -> list[datetime]:
    """The borders, and a hundred from all over the calendar."""
    dice = Random(7)
    span_us = (datetime.max - datetime.min) // timedelta(microseconds=1)
    anywhere = [datetime.min + timedelta(microseconds=dice.randint(0, span_us)) for _ in range(100)]
    whole = datetime(2024, 2, 29, 23, 59, 59)
    fractions = [whole.replace(microsecond=us) for us in (0, 1, 1_000, 100_000, 123_456, 999_999)]
    return [m.replace(tzinfo=UTC) for m in (datetime.min, datetime.max, *fractions, *anywhere)]


def test_the_database_writes_a_moment_as_the_process_does(database: Database) -> None:
    project_id = add_project(database, add_account(database))
    for moment in _moments():
        add_tasks(database, project_id, 1, due_at=moment)
    with database.read() as session:
        if database.dialect == "postgresql":
            session.execute(text("SET LOCAL TIME ZONE 'Asia/Kathmandu'"))
        wrote = session.scalars(select(db_rfc3339(Task.due_at)).order_by(Task.id)).all()
    assert wrote == [rfc3339(moment) for moment in _moments()]
    assert wrote[:3] == [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "2024-02-29T23:59:59Z",
    ]


def test_no_moment_is_written_as_none(database: Database) -> None:
    add_tasks(database, add_project(database, add_account(database)), 1, due_at=None)
    with database.read() as session:
        written: Any = session.scalars(select(db_rfc3339(Task.due_at))).one()
    assert written is None


def _object(database: Database, **fields: Any) -> Any:
    with database.read() as session:
        return session.scalar(select(db_json_object(**fields)).select_from(Task))


def test_an_object_has_its_fields_whatever_they_hold(database: Database) -> None:
    said = '"quoted" \\ {}, \n and Å 🦊'
    project_id = add_project(database, add_account(database))
    add_tasks(database, project_id, 1, title=said, due_at=datetime(2030, 1, 1, tzinfo=UTC))
    made = _object(
        database,
        title=Task.title,
        version=Task.version,
        assignee=Task.overdue_at,
        nothing=null(),
        due_at=db_rfc3339(Task.due_at),
    )
    assert made == {
        "title": said,
        "version": 1,
        "assignee": None,
        "nothing": None,
        "due_at": "2030-01-01T00:00:00Z",
    }
    assert json.loads(json.dumps(made)) == made


def test_an_object_without_fields_is_an_empty_one(database: Database) -> None:
    add_tasks(database, add_project(database, add_account(database)), 1)
    assert _object(database) == {}
