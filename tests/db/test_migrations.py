"""The migrations and the models say the same, on both databases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, Inspector, create_engine, inspect, text

from app.db.engine import engine_url
from app.db.migrate import alembic_config, upgrade
from app.db.models import Base
from app.errors import ConfigError
from tests.support.child import ROOT, Child
from tests.support.database import migrated


@pytest.fixture
def engine(database_url: str) -> Any:
    opened = create_engine(engine_url(database_url))
    yield opened
    opened.dispose()


def _schema(engine: Engine) -> dict[str, Any]:
    """Everything that the database tells of its tables, in an order that can be compared."""
    found = inspect(engine)
    tables = sorted(set(found.get_table_names()) - {"alembic_version"})
    return {table: _table(found, table) for table in tables}


def _table(found: Inspector, table: str) -> dict[str, list[str]]:
    parts: dict[str, Any] = {
        "columns": found.get_columns(table),
        "indexes": found.get_indexes(table),
        "foreign keys": found.get_foreign_keys(table),
        "checks": found.get_check_constraints(table),
        "uniques": found.get_unique_constraints(table),
        "primary key": [found.get_pk_constraint(table)],
    }
    return {name: sorted(str(_plain(row)) for row in rows) for name, rows in parts.items()}


def _plain(part: Any) -> Any:
    """Types and SQL texts as what they read: as objects they never compare equal."""
    if isinstance(part, dict):
        return {name: _plain(value) for name, value in part.items()}
    return str(part)


def test_the_newest_migration_has_no_difference_from_the_models(
    database_url: str, engine: Engine
) -> None:
    upgrade(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_checks_and_partial_indexes_are_those_of_the_models_too(
    database_url: str, engine: Engine
) -> None:
    upgrade(database_url)
    by_migration = _schema(engine)
    command.downgrade(alembic_config(database_url), "base")
    Base.metadata.create_all(engine)
    assert by_migration == _schema(engine)
    assert len(by_migration) == len(Base.metadata.tables)
    assert len(by_migration["tasks"]["checks"]) == 2


def test_a_downgrade_leaves_nothing_and_an_upgrade_after_it_works(
    database_url: str, engine: Engine
) -> None:
    upgrade(database_url)
    command.downgrade(alembic_config(database_url), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    upgrade(database_url)
    assert len(_schema(engine)) == len(Base.metadata.tables)


def test_a_second_upgrade_changes_nothing_and_keeps_the_rows(database_url: str) -> None:
    with migrated(database_url) as database:
        with database.write() as session:
            session.execute(text("INSERT INTO cron_jobs VALUES ('overdue', 7, 'x', 0, 0, false)"))
        upgrade(database_url)
        with database.read() as session:
            assert session.scalar(text("SELECT fence FROM cron_jobs")) == 7


def test_the_ledger_of_slots_becomes_one_of_attempts_and_back(
    database_url: str, engine: Engine
) -> None:
    command.upgrade(alembic_config(database_url), "0001")
    entry = (
        "INSERT INTO cron_runs VALUES ('overdue', {slot}, {attempt}, 7, 'x', {when}, {outcome}, 5)"
    )
    when = "'2026-01-01 00:00:00', '2026-01-01 00:00:00', NULL"
    with engine.begin() as connection:
        for slot, attempt, outcome in ((1, 1, "'succeeded'"), (2, 3, "NULL")):
            values = {"slot": slot, "attempt": attempt, "outcome": outcome, "when": when}
            connection.execute(text(entry.format(**values)))
    before = [(1, 1, "succeeded", 5), (2, 3, None, 5)]
    shown = text("SELECT slot, attempt, outcome, rows FROM cron_runs ORDER BY slot")
    for revision in ("0002", "0001"):
        move = command.upgrade if revision == "0002" else command.downgrade
        move(alembic_config(database_url), revision)
        with engine.connect() as connection:
            assert [tuple(row) for row in connection.execute(shown)] == before


def test_accounts_get_a_plan_and_lose_it_again_and_nothing_else(
    database_url: str, engine: Engine
) -> None:
    command.upgrade(alembic_config(database_url), "0002")
    when = "'2026-01-01 00:00:00'"
    with engine.begin() as connection:
        for number, name in enumerate(("ann", "bob"), start=1):
            account_id = (
                f"{number:032x}" if engine.dialect.name == "sqlite" else str(UUID(int=number))
            )
            values = (
                f"'{account_id}', '{name}@example.com', '{name}', 'hash', 'user', {when}, {when}"
            )
            columns = "id, email, name, password_hash, role, created_at, updated_at"
            connection.execute(text(f"INSERT INTO accounts ({columns}) VALUES ({values})"))
    before = _accounts(engine)
    assert [row["email"] for row in before] == ["ann@example.com", "bob@example.com"]
    command.upgrade(alembic_config(database_url), "0003")
    assert _accounts(engine) == [{**row, "plan": "standard"} for row in before]
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET plan = 'big'"))
        connection.execute(
            text(f"INSERT INTO limit_rules VALUES ('plan:big', 'reads', '1/minute', {when})")
        )
    command.downgrade(alembic_config(database_url), "0002")
    assert _accounts(engine) == before
    command.upgrade(alembic_config(database_url), "0003")
    assert _accounts(engine) == [{**row, "plan": "standard"} for row in before]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM limit_rules")) == 0


def test_every_owner_of_a_project_becomes_a_member_and_stays_its_owner(
    database_url: str, engine: Engine
) -> None:
    command.upgrade(alembic_config(database_url), "0004")
    when, ann, home = "'2026-01-01 00:00:00'", UUID(int=1).hex, UUID(int=2).hex
    account = f"'{ann}', 'ann@example.com', 'Ann', 'none', 'user', {when}, {when}"
    columns = "id, email, name, password_hash, role, created_at, updated_at"
    project = f"'{home}', '{ann}', 'Home', '', 1, {when}, {when}"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO accounts ({columns}) VALUES ({account})"))
        connection.execute(text(f"INSERT INTO projects VALUES ({project})"))
    found = text(
        "SELECT m.role, m.created_at = p.created_at, m.account_id = p.owner_id, p.archived_at "
        "FROM project_members m JOIN projects p ON p.id = m.project_id"
    )
    for _ in range(2):
        command.upgrade(alembic_config(database_url), "0005")
        with engine.connect() as connection:
            assert [tuple(row) for row in connection.execute(found)] == [("owner", 1, 1, None)]
        command.downgrade(alembic_config(database_url), "0004")
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM projects")) == 1


def _accounts(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM accounts ORDER BY email"))
        return [dict(row._mapping) for row in rows]


def test_three_instances_that_migrate_at_once_take_turns(
    database_url: str, engine: Engine, tmp_path: Path
) -> None:
    program = "import sys; from app.db.migrate import upgrade; upgrade(sys.argv[1])"
    instances = [
        Child(
            f"instance-{number}",
            [sys.executable, "-c", program, database_url],
            output=tmp_path / f"instance-{number}.log",
            cwd=ROOT,
        )
        for number in range(3)
    ]
    assert [instance.wait() for instance in instances] == [0] * 3
    assert [instance.text() for instance in instances] == [""] * 3
    assert len(_schema(engine)) == len(Base.metadata.tables)


def test_the_folder_of_an_sqlite_file_is_made_and_a_relative_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    upgrade("sqlite:///data/deeper/taskflow.db")
    assert (tmp_path / "data/deeper/taskflow.db").is_file()


def test_sqlite_in_memory_is_refused_because_nothing_could_share_it() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        upgrade("sqlite://")
