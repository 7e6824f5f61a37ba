"""A migrated database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db.engine import Database
from tests.support.database import Schemas
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="package")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Schemas:
    """The schema, migrated once."""
    return Schemas(tmp_path_factory.mktemp("schemas"))


@pytest.fixture
def postgres(schemas: Schemas, postgres_server: PostgresServer) -> Iterator[Database]:
    """A migrated, empty PostgreSQL, for what SQLite cannot do."""
    with schemas.postgresql(postgres_server) as database:
        yield database


@pytest.fixture
def sqlite(schemas: Schemas, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty SQLite, for what only SQLite does."""
    with schemas.sqlite(tmp_path / "taskflow.db") as database:
        yield database


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated, empty database; a test that takes it runs on SQLite and on PostgreSQL."""
    opened: Database = request.getfixturevalue(request.param)
    return opened
