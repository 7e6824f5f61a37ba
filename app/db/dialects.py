"""What PostgreSQL and SQLite write differently, for code that means the same on both."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.models import Base


def insert_into(session: Session, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT."""
    on_postgresql = session.get_bind().dialect.name == "postgresql"
    return postgresql.insert(model) if on_postgresql else sqlite.insert(model)


def bound_waits(session: Session, **bounds_ms: int) -> None:
    """Set time limits of PostgreSQL for the rest of this transaction; SQLite has none.

    Args:
        bounds_ms: settings such as `lock_timeout`, in milliseconds; 0 for no limit.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    for setting, bound_ms in bounds_ms.items():
        session.execute(
            text("SELECT set_config(:name, :value, true)"),
            {"name": setting, "value": f"{bound_ms}ms"},
        )
