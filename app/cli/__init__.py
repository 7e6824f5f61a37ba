"""The commands of `flask`. Errors are one line; a traceback is a bug."""

from __future__ import annotations

import getpass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from app.errors import FieldError, InvalidInput, TaskFlowError

if TYPE_CHECKING:
    from app.bootstrap import Container

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


class _OneLineErrors(click.Command):
    """Errors of ours end a command with their own words; others keep their traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TaskFlowError as error:
            raise click.ClickException(_lines(error)) from error


class Command(_OneLineErrors):
    """One command; it needs `@with_appcontext`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        finally:
            if current_app:
                container().relay.settle()


class Commands(_OneLineErrors, AppGroup):
    """A group whose commands run inside the application."""

    command_class = Command


def container() -> Container:
    """The parts that `bootstrap.build` made for the application of this command."""
    return cast("Container", current_app.extensions["taskflow"])


def shown(text: str) -> str:
    """A line for a terminal, which does what control characters say: they are shown escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def who_types() -> str:
    """Whoever gave the command, as the machine knows them; for what is logged."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"


def register(app: Flask) -> None:
    """Add every command. Imports happen inside: this module is what the commands import."""
    from flask_migrate import Migrate

    from app.cli.cache import cache
    from app.cli.cron import cron
    from app.cli.demo import demo
    from app.cli.limits import limits
    from app.cli.locks import locks
    from app.cli.lua import lua
    from app.cli.openapi import openapi
    from app.cli.users import users
    from app.db.models import Base

    # All that `flask db` needs of a database object is the schema; migrations/env.py connects.
    Migrate(app, db=SimpleNamespace(metadata=Base.metadata), directory=str(MIGRATIONS))
    for command in (cache, cron, demo, limits, locks, lua, openapi, users):
        app.cli.add_command(command)


def _lines(error: TaskFlowError) -> str:
    found = error.errors if isinstance(error, InvalidInput) else ()
    return "\n".join([str(error), *(_line(each) for each in found)])


def _line(error: FieldError) -> str:
    return f"  {error.field}: {error.message}"
