"""Units of work: what they keep, what they undo, and what they raise when the database is away."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.db.engine import TRIES, Database
from app.db.models import Account, Project
from app.errors import ConfigError, DatabaseUnavailable, LockBusy, NotFound
from tests.support.database import add_account, add_project, rows_in
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually


def _rename(session: Session, old: str, new: str) -> None:
    renamed = text("UPDATE projects SET name = :new WHERE name = :old")
    session.execute(renamed, {"old": old, "new": new})


def _names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(text("SELECT name FROM projects ORDER BY name")))


def test_a_unit_of_work_is_committed_as_a_whole_or_not_at_all(database: Database) -> None:
    owner = add_account(database)
    add_project(database, owner, "Home")
    with pytest.raises(NotFound):
        _rename_and_fail(database)
    assert _names(database) == ["Home"]
    with database.write() as session:
        _rename(session, "Home", "Whole")
    assert _names(database) == ["Whole"]


def _rename_and_fail(database: Database) -> None:
    with database.write() as session:
        _rename(session, "Home", "Half")
        raise NotFound("project")


def test_a_read_leaves_nothing_behind_whatever_it_did(database: Database) -> None:
    add_project(database, add_account(database), "Home")
    with database.read() as session:
        _rename(session, "Home", "Changed")
    assert _names(database) == ["Home"]


def test_a_full_pool_is_reported_as_an_unavailable_database(database_url: str) -> None:
    small = Database(database_url, pool_size=1, pool_timeout_ms=50)
    with small.read() as holding:
        holding.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="in use"), small.read() as waiting:
            waiting.execute(text("SELECT 1"))
    with small.read() as served:
        assert served.scalar(text("SELECT 1")) == 1
    small.close()


def test_an_empty_database_is_told_from_one_that_is_away(database_url: str) -> None:
    empty = Database(database_url, pool_size=1, pool_timeout_ms=1_000)
    with pytest.raises(DatabaseUnavailable, match="not migrated: flask --app wsgi db upgrade"):
        empty.ping()
    empty.close()


def test_a_statement_that_is_wrong_is_not_disguised_as_an_outage(database: Database) -> None:
    with pytest.raises(DBAPIError), database.read() as session:
        session.execute(text("SELECT nonsense FROM accounts"))
    add_account(database, "ann")
    with pytest.raises(IntegrityError):
        add_account(database, "ann")


def test_foreign_keys_are_enforced_and_cascade(database: Database) -> None:
    owner = add_account(database)
    add_project(database, owner)
    with database.write() as session:
        session.execute(text("DELETE FROM accounts"))
    assert rows_in(database, Project) == 0


def test_a_server_that_refuses_is_an_unavailable_database() -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    away = Database(url, pool_size=1, pool_timeout_ms=50)
    with pytest.raises(DatabaseUnavailable, match="not reachable"):
        away.ping()


def test_a_file_that_cannot_be_opened_is_an_unavailable_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'no such folder' / 'taskflow.db'}"
    with pytest.raises(DatabaseUnavailable, match="not reachable"):
        Database(url, pool_size=1, pool_timeout_ms=50).ping()


def test_a_killed_server_is_unavailable_and_its_return_is_noticed(
    postgres: Database, postgres_server: PostgresServer
) -> None:
    postgres.ping()
    postgres_server.kill()
    with pytest.raises(DatabaseUnavailable):
        postgres.ping()
    postgres_server.restart()
    postgres.ping()


def test_sqlite_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory"):
        Database("sqlite:///:memory:", pool_size=1, pool_timeout_ms=50)


def test_sqlite_runs_in_wal_mode_with_foreign_keys_and_a_busy_timeout(sqlite: Database) -> None:
    pragmas = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
    with sqlite.read() as session:
        found = [session.scalar(text(f"PRAGMA {pragma}")) for pragma in pragmas]
    assert found == ["wal", 1, 5_000, 1]


def test_postgresql_keeps_the_urls_own_options_and_works_in_utc(postgres_url: str) -> None:
    url = f"{postgres_url}?options=-c%20work_mem%3D5MB&application_name=mine"
    database = Database(url, pool_size=1, pool_timeout_ms=1_000)
    names = ("TimeZone", "work_mem", "application_name")
    with database.read() as session:
        found = [session.scalar(text(f"SHOW {name}")) for name in names]
    database.close()
    assert found == ["UTC", "5MB", "mine"]
    assert database.dialect == "postgresql"


def test_readers_on_sqlite_do_not_wait_for_a_writer(sqlite: Database) -> None:
    add_project(sqlite, add_account(sqlite), "Home")
    with sqlite.write() as session:
        _rename(session, "Home", "Unseen")
        assert _names(sqlite) == ["Home"]
    assert _names(sqlite) == ["Unseen"]


def test_a_unit_on_sqlite_has_the_write_lock_from_its_first_statement(sqlite: Database) -> None:
    other = sqlite3.connect(str(sqlite.engine.url.database), timeout=0)
    with sqlite.write() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_a_busy_sqlite_is_tried_four_times_and_then_unavailable(
    sqlite: Database, sqlite_url: str
) -> None:
    noted: list[None] = []
    impatient = Database(
        sqlite_url, pool_size=1, pool_timeout_ms=1_000, on_retry=lambda: noted.append(None)
    )
    with impatient.read() as session:
        session.execute(text("PRAGMA busy_timeout = 0"))
    with sqlite.write() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="too busy"):
            impatient.retrying(lambda unit: unit.execute(text("SELECT 1")))
    impatient.close()
    assert len(noted) == TRIES - 1 == 3


def test_concurrent_units_that_read_before_they_write_lose_no_update(database: Database) -> None:
    add_project(database, add_account(database), "0")

    def count_up(session: Session) -> None:
        seen = session.scalar(text(f"SELECT name FROM projects {_for_update(database)}"))
        session.execute(text("UPDATE projects SET name = :name"), {"name": str(int(seen) + 1)})

    def count_up_often() -> None:
        for _ in range(25):
            database.retrying(count_up)

    _together(count_up_often, count_up_often, count_up_often, count_up_often)
    assert _names(database) == ["100"]


def test_the_whole_unit_runs_again_after_a_deadlock(postgres: Database) -> None:
    owner = add_account(postgres)
    add_project(postgres, owner, "A")
    add_project(postgres, owner, "B")
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def crosswise(first: str, second: str) -> Callable[[Session], None]:
        def unit(session: Session) -> None:
            runs.append(first)
            session.execute(
                text("UPDATE projects SET version = version + 1 WHERE name = :n"), {"n": first}
            )
            if len(runs) <= 2:
                both_hold_one.wait(10)
            session.execute(
                text("UPDATE projects SET version = version + 1 WHERE name = :n"), {"n": second}
            )

        return unit

    _together(
        lambda: postgres.retrying(crosswise("A", "B")),
        lambda: postgres.retrying(crosswise("B", "A")),
    )
    with postgres.read() as session:
        assert list(session.scalars(text("SELECT version FROM projects"))) == [3, 3]
    assert len(runs) == 3


def test_a_unit_that_never_gets_through_is_given_up_after_four_tries(
    postgres_url: str,
) -> None:
    noted: list[None] = []
    database = Database(
        postgres_url, pool_size=2, pool_timeout_ms=1_000, on_retry=lambda: noted.append(None)
    )
    runs: list[None] = []

    def always_fails(session: Session) -> None:
        runs.append(None)
        session.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(DatabaseUnavailable, match="too busy"):
        database.retrying(always_fails)
    database.close()
    assert len(runs) == TRIES == 4
    assert len(noted) == 3


def test_an_error_that_is_no_deadlock_is_not_tried_again(database: Database) -> None:
    runs: list[None] = []

    def fails(_session: Session) -> None:
        runs.append(None)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.retrying(fails)
    assert len(runs) == 1


def test_a_lock_timeout_is_a_busy_lock(postgres: Database) -> None:
    add_account(postgres)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with postgres.write() as session:
            session.execute(text("SELECT 1 FROM accounts FOR UPDATE"))
            locked.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    with pytest.raises(LockBusy):
        _lock_accounts_within_20_ms(postgres)
    done.set()
    holder.join(10)
    assert rows_in(postgres, Account) == 1


def _lock_accounts_within_20_ms(database: Database) -> None:
    with database.write() as session:
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        session.execute(text("SELECT 1 FROM accounts FOR UPDATE"))


def _for_update(database: Database) -> str:
    return "FOR UPDATE" if database.dialect == "postgresql" else ""


def _together(*units: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run(unit: Callable[[], None]) -> None:
        try:
            unit()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(unit,)) for unit in units]
    for thread in threads:
        thread.start()
    eventually(
        lambda: not any(thread.is_alive() for thread in threads), timeout_s=60, what="the units"
    )
    assert errors == []
