"""Column types, identifiers and the database's own clock, alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import BigInteger, DateTime, Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator


def new_id() -> UUID:
    """A UUIDv7: rising within a process, and in order of creation to the millisecond elsewhere."""
    return uuid_utils.compat.uuid7()


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. Stored in UTC with microseconds; a naive value is a programming error.

    SQLite has no type for it: the text it keeps there sorts in order of time.

    Raises:
        ValueError: at binding, for a datetime without a time zone.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite's text then carries no offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC, whatever the driver gave."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)


class _NowMs(FunctionElement[int]):
    name = "db_now_ms"
    type = BigInteger()
    inherit_cache = True


class _Now(FunctionElement[datetime]):
    name = "db_now"
    type = UtcDateTime()
    inherit_cache = True


def db_now_ms() -> FunctionElement[int]:
    """The database's clock: milliseconds since the epoch, read when the row is looked at.

    On PostgreSQL it moves during a statement, so that a claim that waited for a row sees the
    time after the wait.
    """
    return _NowMs()


def db_now() -> FunctionElement[datetime]:
    """The database's clock as a moment: the statement's start, so that an index can serve it.

    SQLite's has milliseconds.
    """
    return _Now()


@compiles(_NowMs, "postgresql")
def _now_ms_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(_NowMs, "sqlite")
def _now_ms_sqlite(*_: Any, **__: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(_Now, "postgresql")
def _now_postgresql(*_: Any, **__: Any) -> str:
    return "statement_timestamp()"


@compiles(_Now, "sqlite")
def _now_sqlite(*_: Any, **__: Any) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"
