"""`flask locks`: which locks are held, by whom, and a way out when a holder hangs."""

from __future__ import annotations

import json

import click
import structlog
from flask.cli import with_appcontext

from app.cli import Command, Commands, container, shown, who_types
from app.coordination.deployment import lock_targets
from app.coordination.lock import check_name
from app.coordination.lock_inspection import LockInspection, LockView

_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_log = structlog.get_logger(__name__)


@click.group(cls=Commands)
def locks() -> None:
    """The named locks."""


@locks.command("list", cls=Command)
@with_appcontext
@_json
def list_(as_json: bool) -> None:
    """Show every lock that is held, and leases that only a minority of the servers has."""
    held = _inspection().held()
    if as_json:
        click.echo(json.dumps({"locks": [view.as_dict() for view in held]}))
        return
    for view in held:
        click.echo(f"{shown(view.name):<32} {_told(view)}")
    if not held:
        click.echo("No lock is held.")


@locks.command(cls=Command)
@with_appcontext
@click.argument("name")
@_json
def show(name: str, as_json: bool) -> None:
    """Show the lock NAME: who holds it, under which fence, for how long, and who waits."""
    view = _inspection().show(check_name(name))
    click.echo(json.dumps(view.as_dict()) if as_json else f"{shown(view.name)}: {_told(view)}")


@locks.command(cls=Command)
@with_appcontext
@click.argument("name")
@click.option("--force", is_flag=True, required=True, help="Take it from its holder.")
@_json
def release(name: str, force: bool, as_json: bool) -> None:  # noqa: ARG001  required, so that it is meant
    """Take the lock NAME from its holder, who finds out at its next renewal.

    Asks for the name again. What the holder writes until then is only refused by what checks
    its fence.
    """
    inspection = _inspection()
    seen = inspection.show(check_name(name))
    if seen.holder is None:
        raise click.ClickException(f"The lock {name!r} is free.")
    click.echo(f"{name}: {_told(seen)}", err=True)
    if click.prompt("The name of the lock again", err=True) != name:
        raise click.ClickException("That is another name; nothing was released.")
    released = inspection.force(seen)
    _log.warning("lock.forced", lock=name, holder=seen.holder, by=who_types(), released=released)
    if as_json:
        click.echo(json.dumps({"name": name, "released": released, "holder": seen.holder}))
    elif released:
        click.echo(f"Released {name!r}, which {seen.holder} held.")
    if not released:
        raise click.ClickException(f"The lock {name!r} has passed on by itself meanwhile.")


def _inspection() -> LockInspection:
    parts = container()
    return LockInspection(lock_targets(parts.settings), parts.scripts)


def _told(view: LockView) -> str:
    if view.holder is None:
        return "free" if view.fence is None else f"free, last fence {view.fence}"
    held = f"held by {view.holder}, fence {view.fence}, {view.age_s} s old"
    left = "without an end" if view.left_ms is None else f"{view.left_ms / 1000:.1f} s left"
    return f"{held}, {left}, {view.waiters} waiting{_where(view)}"


def _where(view: LockView) -> str:
    if view.of_servers == 1:
        return ""
    where = f", on {view.servers} of {view.of_servers} servers"
    return where if view.is_held else f"{where}: by no majority, so that nobody holds the lock"
