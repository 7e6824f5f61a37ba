"""Sorts what the drivers raise: what to try again, what means that the database is away."""

from __future__ import annotations

import sqlite3

import psycopg
from sqlalchemy.exc import DBAPIError

from app.errors import DatabaseUnavailable, LockBusy, TaskFlowError

_SQLITE_RETRY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)
_SQLSTATE_RETRY = frozenset({"40001", "40P01"})
_SQLSTATE_LOCKED = "55P03"
_SQLSTATE_TOO_LONG = "57014"
_SQLSTATE_NO_TABLE = "42P01"
# Connection lost, no resources (memory, disk, connections), shut down, starting up, read-only.
_SQLSTATE_AWAY = ("08", "53", "57P", "25006")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction, begun anew, may well succeed."""
    code = _sqlite_code(error)
    return code in _SQLITE_RETRY if code is not None else _sqlstate(error) in _SQLSTATE_RETRY


def explained(error: DBAPIError) -> TaskFlowError | None:
    """The error of ours that says the same, or None for what is a bug in the statement."""
    if is_transient(error):
        return DatabaseUnavailable("The database is too busy.")
    if _sqlstate(error) == _SQLSTATE_LOCKED:
        return LockBusy("A row stayed locked for longer than the lock timeout.")
    if _sqlstate(error) == _SQLSTATE_NO_TABLE or "no such table" in str(error.orig):
        return DatabaseUnavailable("The database is not migrated: flask --app wsgi db upgrade")
    if _sqlstate(error) == _SQLSTATE_TOO_LONG:
        return DatabaseUnavailable("A statement ran into its time limit.")
    if error.connection_invalidated or _is_away(error):
        return DatabaseUnavailable("The database is not reachable.")
    return None


def _is_away(error: DBAPIError) -> bool:
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_AWAY
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_SQLSTATE_AWAY)
    # psycopg knows no SQLSTATE where no server answered: refused, timed out, cut off.
    return isinstance(error.orig, psycopg.OperationalError)


def _sqlite_code(error: DBAPIError) -> int | None:
    """The primary code: the extended ones keep it in their low byte."""
    if not isinstance(error.orig, sqlite3.Error):
        return None
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)
