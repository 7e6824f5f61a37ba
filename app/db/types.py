"""Column types, identifiers and the database's own clock, alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    SQLColumnExpression,
    String,
    Uuid,
    literal,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator


def new_id() -> UUID:
    """A UUIDv7: rising within a process, and in order of creation to the millisecond elsewhere."""
    return uuid_utils.compat.uuid7()


def least_id(moment_ms: int) -> UUID:
    """What no `new_id` of that moment or later is below. `moment_ms`: since the epoch."""
    return UUID(int=max(0, moment_ms) << 80)


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


class _NewId(FunctionElement[UUID]):
    name = "db_new_id"
    type = Uuid()
    inherit_cache = True


class _Text(FunctionElement[str]):
    name = "db_rfc3339"
    type = String()
    inherit_cache = True


class _Object(FunctionElement[Any]):
    name = "db_json_object"
    type = JSON().with_variant(JSONB(), "postgresql")
    inherit_cache = True


def db_new_id() -> FunctionElement[UUID]:
    """A UUIDv7 made by the database, one for each row: its clock's millisecond, then chance."""
    return _NewId()


def db_rfc3339(moment: SQLColumnExpression[Any]) -> FunctionElement[str]:
    """A moment as text in UTC with Z; a fraction only where there is one."""
    return _Text(moment)


def db_json_object(**fields: Any) -> FunctionElement[Any]:
    """A JSON object of the given expressions, by name."""
    return _Object(*(part for name, value in fields.items() for part in (literal(name), value)))


@compiles(_NewId, "postgresql")
def _new_id_postgresql(*_: Any, **__: Any) -> str:
    # Six bytes of time over the random ones; bits 52 and 53 make version 4 a 7.
    ms = "substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)"
    timed = f"overlay(uuid_send(gen_random_uuid()) PLACING {ms} FROM 1 FOR 6)"
    return f"encode(set_bit(set_bit({timed}, 52, 1), 53, 1), 'hex')::uuid"


@compiles(_NewId, "sqlite")
def _new_id_sqlite(*_: Any, **__: Any) -> str:
    ms = f"printf('%012x', {_now_ms_sqlite()})"
    variant = "substr('89ab', 1 + (random() & 3), 1)"
    few, many = "substr(hex(randomblob(2)), 2)", "substr(hex(randomblob(8)), 2)"
    return f"lower({ms} || '7' || {few} || {variant} || {many})"


@compiles(_Text, "postgresql")
def _text_postgresql(element: _Text, compiler: SQLCompiler, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)
    text = f"to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
    return f"replace({text}, '.000000', '') || 'Z'"


@compiles(_Text, "sqlite")
def _text_sqlite(element: _Text, compiler: SQLCompiler, **options: Any) -> str:
    # Stored as text in UTC, with a fraction of six digits or none.
    moment = compiler.process(element.clauses, **options)
    return f"replace(replace({moment}, ' ', 'T'), '.000000', '') || 'Z'"


@compiles(_Object, "postgresql")
def _object_postgresql(element: _Object, compiler: SQLCompiler, **options: Any) -> str:
    return f"jsonb_build_object({compiler.process(element.clauses, **options)})"


@compiles(_Object, "sqlite")
def _object_sqlite(element: _Object, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_object({compiler.process(element.clauses, **options)})"


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
