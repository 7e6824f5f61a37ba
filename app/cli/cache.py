"""`flask cache`: what is cached, what is still valid, and making it stale."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import structlog
from flask.cli import with_appcontext

from app.cli import Command, Commands, container, shown, who_types
from app.coordination.cache_inspection import CacheInspection, EntryView, NamespaceView
from app.coordination.deployment import cache_target
from app.db import invalidations

_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_MARKED_WITHIN_MS = 2_000  # each second a process marks what it has told
_STATS = """{entries} entries, {valid} valid, {bytes} bytes in {namespaces} namespaces
{pending} invalidations pending, the oldest for {oldest_pending_s} s"""
_log = structlog.get_logger(__name__)


@click.group(cls=Commands)
def cache() -> None:
    """What is cached.

    A NAMESPACE is project:<id> or account:<id>. A TAG is lists, every-task or task:<id> in a
    project, account in an account.
    """


@cache.command(cls=Command)
@with_appcontext
@_json
def stats(as_json: bool) -> None:
    """Show how much is cached, and which changes Redis has not been told of."""
    views = _inspection().namespaces()
    with container().db.read() as session:
        untold = invalidations.untold(session, least_age_ms=_MARKED_WITHIN_MS)
    found = {
        "namespaces": len(views),
        "entries": sum(view.entries for view in views),
        "valid": sum(view.valid for view in views),
        "bytes": sum(view.bytes for view in views),
        "pending": untold.records,
        "oldest_pending_s": round(untold.oldest_ms / 1000, 3),
    }
    click.echo(json.dumps(found) if as_json else _STATS.format(**found))


@cache.command(cls=Command)
@with_appcontext
@_json
def namespaces(as_json: bool) -> None:
    """Show every namespace. Looks at every entry that there is."""
    views = _inspection().namespaces()
    if as_json:
        click.echo(json.dumps({"namespaces": [view.as_dict() for view in views]}))
        return
    for view in views:
        click.echo(_told_namespace(view))
    if not views:
        click.echo("Nothing is cached.")


@cache.command(cls=Command)
@with_appcontext
@click.argument("namespace")
@click.argument("key", required=False)
@_json
def show(namespace: str, key: str | None, as_json: bool) -> None:
    """Show the entries of NAMESPACE, or the value under KEY."""
    _named(namespace, "NAMESPACE")
    if key is None:
        _show_entries(namespace, _inspection().entries(namespace), as_json)
        return
    entry = _inspection().entry(namespace, _named(key, "KEY"))
    if entry is None:
        raise click.ClickException(f"Nothing is cached under {key!r} in {namespace!r}.")
    value = (entry.value or b"").decode(errors="replace")
    if as_json:
        click.echo(json.dumps({"namespace": namespace, **entry.as_dict(), "value": value}))
    else:
        click.echo("\n".join([_told(entry), *map(shown, value.split("\n"))]))


@cache.command(cls=Command)
@with_appcontext
@click.argument("namespace", required=False)
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything, in every namespace.")
@_json
def invalidate(
    namespace: str | None, tags: tuple[str, ...], everything: bool, as_json: bool
) -> None:
    """Make stale what carries a TAG in NAMESPACE, for every process from its next request on.

    After a database was restored from a backup: --all.
    """
    if everything:
        if namespace is not None:
            raise click.UsageError("--all takes no namespace.")
        _invalidate_all(as_json)
        return
    if namespace is None or not tags:
        raise click.UsageError("NAMESPACE and at least one TAG, or --all.")
    _invalidate(_named(namespace, "NAMESPACE"), [_tag(each) for each in tags], as_json)


def _invalidate_all(as_json: bool) -> None:
    count = _inspection().invalidate_all()
    _log.warning("cache.invalidated_all", namespaces=count, by=who_types())
    said = f"{count} namespaces begun anew"
    click.echo(json.dumps({"namespaces": count}) if as_json else said)


def _invalidate(namespace: str, tags: Sequence[str], as_json: bool) -> None:
    inspection = _inspection()
    if inspection.namespace(namespace) is None:
        raise click.ClickException(f"Nothing is cached in {namespace!r}.")
    count = inspection.invalidate(namespace, tags)
    _log.warning("cache.invalidated", namespace=namespace, tags=tags, by=who_types())
    said = {"namespace": namespace, "tags": tags, "entries": count}
    click.echo(json.dumps(said) if as_json else f"{shown(namespace)}: {count} entries made stale")


def _show_entries(namespace: str, entries: Sequence[EntryView], as_json: bool) -> None:
    if as_json:
        views = [entry.as_dict() for entry in entries]
        click.echo(json.dumps({"namespace": namespace, "entries": views}))
        return
    for entry in entries:
        click.echo(_told(entry))
    if not entries:
        click.echo(f"Nothing is cached in {shown(namespace)}.")


def _told_namespace(view: NamespaceView) -> str:
    what = f"{view.entries} entries, {view.valid} valid, {view.bytes} bytes, {view.tags} tags"
    name = shown(view.namespace)
    return f"{name}  {what}, clock {view.clock}, floor {view.floor}, epoch {view.epoch}"


def _told(entry: EntryView) -> str:
    what = f"{'valid' if entry.valid else 'stale'}  {entry.bytes} bytes, sequence {entry.sequence}"
    left = f"{entry.left_ms / 1000:.1f} s left"
    return shown(f"{what}, {left}, tags {' '.join(entry.tags)}  {entry.key}")


def _named(text: str, hint: str) -> str:
    if not text:
        raise click.BadParameter("it is empty", param_hint=hint)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{text!r} is not UTF-8", param_hint=hint) from None
    return text


def _tag(text: str) -> str:
    """Tags are joined by line feeds; `!` begins what is no tag but names the epoch."""
    if "\n" in text or text.startswith("!"):
        raise click.BadParameter(f"{text!r} is no tag", param_hint="TAG")
    return _named(text, "TAG")


def _inspection() -> CacheInspection:
    settings, scripts = container().settings, container().scripts
    return CacheInspection(cache_target(settings), scripts, ttl_s=settings.cache_ttl_s)
