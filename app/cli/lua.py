"""`flask lua`: load the scripts into servers, see what they hold, check the files."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
from flask.cli import with_appcontext

from app.cli import Command, Commands, container
from app.coordination import deployment
from app.coordination.client import ScriptClient
from app.coordination.deployment import NodeStatus
from app.coordination.scripts import FOLDER, ScriptRegistry, write_pins

_url = click.option("--url", help="A server other than the configured one: redis://host:port.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.group(cls=Commands)
def lua() -> None:
    """The versioned Lua scripts."""


@lua.command(cls=Command)
@with_appcontext
@_url
@_json
def load(url: str | None, as_json: bool) -> None:
    """Load every script on every node, primaries and replicas."""
    _print(deployment.load(*_target(url)), as_json=as_json)


@lua.command(cls=Command)
@with_appcontext
@_url
@_json
def status(url: str | None, as_json: bool) -> None:
    """Show which node has which script; exit code 1 if any is missing."""
    found = deployment.status(*_target(url))
    _print(found, as_json=as_json)
    if not all(script.loaded for node in found for script in node.scripts):
        raise SystemExit(1)


@lua.command(cls=Command)
@with_appcontext
def verify() -> None:
    """Hold every file to the contract and to the manifest; exit code 1 if one breaks it."""
    scripts = ScriptRegistry.from_folder()
    scripts.verify()
    click.echo(f"{len(scripts)} scripts, as pinned.")


@lua.command(cls=Command)
@with_appcontext
def pin() -> None:
    """Pin the scripts that the manifest doesn't name yet; never change a pinned one."""
    added = write_pins(FOLDER)
    click.echo("\n".join(f"pinned {id_}" for id_ in added) or "Every script is pinned already.")


def _target(url: str | None) -> tuple[list[ScriptClient], ScriptRegistry]:
    return deployment.targets(container().settings, url), container().scripts


def _print(nodes: Sequence[NodeStatus], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"nodes": [node.as_dict() for node in nodes]}))
        return
    for node in nodes:
        click.echo(f"{node.node}  {node.role}")
        for script in node.scripts:
            state = "loaded" if script.loaded else "MISSING"
            click.echo(f"  {script.name:<16} v{script.version}  {script.sha}  {state}")
