"""The one engine of a process, and its units of work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from app.db.faults import explained, is_transient
from app.errors import ConfigError, DatabaseUnavailable

T = TypeVar("T")

# The connection whose transaction everything of this thread takes part in; see `Database.joined`.
_joined: ContextVar[Connection | None] = ContextVar("joined", default=None)

TRIES = 4
_BACKOFF_S = 0.02
_BUSY_TIMEOUT_S = 5
_RECYCLE_S = 1_800
# A server that vanished without a word is noticed by libpq after these, in seconds or ms.
_CONNECT = {"connect_timeout": "3", "tcp_user_timeout": "5000", "keepalives_idle": "5"}
_STATEMENT_TIMEOUT_MS = 30_000
_BEGIN = "taskflow_begin"
_PRAGMAS = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
)


def engine_url(url: str) -> URL:
    """`url` with its driver: psycopg 3 for PostgreSQL, sessions in UTC and 3 s to connect.

    Raises:
        ConfigError: for SQLite in memory, which no two connections share.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError("DATABASE_URL", repr(url), "sqlite:///file: memory is not shared")
        return parsed
    given = str(parsed.query.get("options", ""))
    query = {**_CONNECT, "application_name": "taskflow"}
    query |= {name: str(value) for name, value in parsed.query.items()}
    ours = f"-c timezone=UTC -c statement_timeout={_STATEMENT_TIMEOUT_MS}"
    query["options"] = f"{ours} {given}".strip()
    return parsed.set(drivername="postgresql+psycopg", query=query)


class Database:
    """Sessions on one database, SQLite or PostgreSQL.

    Args:
        url: `sqlite:///file` (relative to the working directory) or `postgresql://…`.
        pool_size: connections at most, for this process.
        pool_timeout_ms: how long to wait for one of them, in milliseconds.
        on_retry: called before each repetition of a unit of work, for the metrics.

    Raises:
        ConfigError: for SQLite in memory.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        pool_timeout_ms: int,
        on_retry: Callable[[], None] | None = None,
    ) -> None:
        self.engine: Engine = create_engine(
            engine_url(url),
            poolclass=QueuePool,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_ms / 1000,
            pool_recycle=_RECYCLE_S,
        )
        self.dialect: str = self.engine.dialect.name
        self._on_retry = on_retry
        self._writer = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        if self.dialect == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A fresh session whose transaction ends without a trace.

        Raises:
            DatabaseUnavailable: the database is away, or the pool stayed full.
        """
        with _translated(), self._session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One unit of work: committed at the end, undone by any error.

        SQLite takes its write lock with the first statement (BEGIN IMMEDIATE): a transaction
        that reads first could never be upgraded once another one has written.

        Raises:
            DatabaseUnavailable: as `read`. After a lost connection the commit may have happened.
            LockBusy: a `lock_timeout` that the unit had set ran out.
        """
        with _translated(), self._unit() as session:
            yield session

    def retrying(self, unit: Callable[[Session], T]) -> T:
        """Run `unit` in a unit of work; on a deadlock or a busy database, all of it again.

        Args:
            unit: may run up to 4 times, so it builds its objects anew each time.

        Raises:
            DatabaseUnavailable: as `write`, and when the last try failed too.
        """
        with _translated():
            tries = 1 if self.is_joined else TRIES
            for attempt in range(1, tries):
                try:
                    return self._run(unit)
                except DBAPIError as error:
                    if not is_transient(error):
                        raise
                self._pause(attempt)
            return self._run(unit)

    @contextmanager
    def joined(self, session: Session) -> Iterator[None]:
        """Within the block, all of this thread's reads and units are part of `session`'s unit.

        Each is undone by itself where it fails (a savepoint), and kept only if the whole is. What
        ends the whole transaction, such as a deadlock, is left to whoever runs the whole again.
        """
        token = _joined.set(session.connection())
        try:
            yield
        finally:
            _joined.reset(token)

    @property
    def is_joined(self) -> bool:
        """Whether what is read now may be somebody's who has not committed it yet."""
        return _joined.get() is not None

    def ping(self) -> None:
        """Ask the database which schema it has.

        Raises:
            DatabaseUnavailable: no answer, or no schema yet.
        """
        with self.read() as session:
            session.execute(text("SELECT version_num FROM alembic_version"))

    def begin_afresh(self) -> None:
        """In a forked child: with a pool of its own; the parent's connections are left alone."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    @contextmanager
    def _unit(self) -> Iterator[Session]:
        with self._session(self._writer) as session, session.begin():
            yield session

    def _session(self, engine: Engine) -> Session:
        bind = _joined.get() or engine
        return Session(bind, expire_on_commit=False, join_transaction_mode="create_savepoint")

    def _run(self, unit: Callable[[Session], T]) -> T:
        with self._unit() as session:
            return unit(session)

    def _pause(self, attempt: int) -> None:
        if self._on_retry is not None:
            self._on_retry()
        time.sleep(random.uniform(0, _BACKOFF_S * 2**attempt))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("Every database connection is in use.") from error
    except DBAPIError as error:
        ours = explained(error)
        if ours is None or (_joined.get() is not None and is_transient(error)):
            raise
        raise ours from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions on its own: it would do so late, and deferred.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))
