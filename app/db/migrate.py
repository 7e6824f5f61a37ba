"""Brings a database to the newest schema. `migrations/env.py` does the locking."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from app.db.engine import engine_url

FOLDER = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config(url: str) -> Config:
    """Alembic's configuration for `url`, from whatever working directory."""
    config = Config(str(FOLDER / "alembic.ini"))
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Apply every migration that is missing; instances that start together take turns.

    Instances are processes: Alembic itself does not bear two threads that migrate at once.
    A relative SQLite path is relative to the working directory, and its folder is made.

    Raises:
        ConfigError: for SQLite in memory.
    """
    make_folder(url)
    command.upgrade(alembic_config(url), "head")


def make_folder(url: str) -> None:
    """Make the folder that an SQLite file lives in."""
    parsed = engine_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
