"""How Alembic reaches the database, for `flask db`, `alembic` and `app.db.migrate` alike.

Instances that start together take turns: on PostgreSQL by an advisory lock, on SQLite because the
whole migration is one BEGIN IMMEDIATE transaction. Foreign keys stay off on SQLite meanwhile, as
a table made anew (batch mode) would otherwise take the rows that refer to it along.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, text

from app.config import Settings
from app.db.engine import engine_url
from app.db.models import Base
from app.db.types import UtcDateTime

_LOCK_KEY = 7_283_915_046
_SQLITE_PRAGMAS = ("PRAGMA busy_timeout = 60000", "PRAGMA journal_mode = WAL")


def _url() -> str:
    return context.config.attributes.get("url") or Settings.from_env().database_url


def _engine() -> Engine:
    engine = create_engine(engine_url(_url()), poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write our own column type into new revisions as what it is stored as."""
    stored = kind == "type" and isinstance(item, UtcDateTime)
    return "sa.DateTime(timezone=True)" if stored else False


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
        render_item=_render,
    )
    with context.begin_transaction():
        context.run_migrations()


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
        connection.commit()


def run_online() -> None:
    """Migrate over a connection; its end gives the advisory lock back."""
    with _engine().connect() as connection:
        _take_turn(connection)
        _migrate(connection)


def run_offline() -> None:
    """Print the SQL in place of running it (`--sql`)."""
    context.configure(url=engine_url(_url()), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
