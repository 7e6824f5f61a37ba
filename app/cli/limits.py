"""`flask limits`: who uses them up, what holds for whom, and a way to let somebody go on."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click
import structlog
from flask.cli import with_appcontext

from app.cli import Command, Commands, container, shown, who_types
from app.coordination.deployment import targets
from app.coordination.rate_inspection import RateInspection, Usage
from app.services.addresses import address_in, counted_as
from app.services.limit_rules import RULED, Rule, limits_of_settings

_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_identity = click.argument("identity", metavar="IDENTITY")
# Their names, not the enumeration: Click would ask for READS.
_BUDGETS = click.Choice([budget.value for budget in RULED])
_log = structlog.get_logger(__name__)


@click.group(cls=Commands)
def limits() -> None:
    """The rate limits.

    An IDENTITY is account:<id>, address:<address>, or an account's e-mail address. An IPv6 address
    stands for its network of 64 bits: that is what is counted.
    """


@limits.command(cls=Command)
@with_appcontext
@click.option("--limit", "most", type=click.IntRange(1, 1_000), default=20, show_default=True)
@_json
def top(most: int, as_json: bool) -> None:
    """Show who has used up the most of a limit. Looks at every log that there is."""
    _show(_inspection().top(most), as_json, "Nobody has used anything.")


@limits.command(cls=Command)
@with_appcontext
@_identity
@_json
def show(identity: str, as_json: bool) -> None:
    """Show what IDENTITY has used of each limit."""
    who = _identified(identity)
    _show(_inspection().of(who), as_json, f"{who} has used nothing.")


@limits.command(cls=Command)
@with_appcontext
@_identity
@_json
def reset(identity: str, as_json: bool) -> None:
    """Forget what IDENTITY has used; every process lets it go on within a second."""
    who = _identified(identity)
    count = _inspection().reset(who)
    _log.warning("limits.reset", identity=who, limits=count, by=who_types())
    said = {"identity": who, "limits": count}
    click.echo(json.dumps(said) if as_json else f"{who}: {count} limits reset")


@limits.group(cls=Commands)
def policy() -> None:
    """What holds for whom: the settings, and the rules of plans and roles."""


@policy.command("list", cls=Command)
@with_appcontext
@_json
def list_(as_json: bool) -> None:
    """Show the limits of every budget, and the rules that replace them."""
    defaults = limits_of_settings(container().settings)
    rules = container().limit_rules.all()
    if as_json:
        shown = [rule._asdict() for rule in rules]
        click.echo(json.dumps({"defaults": defaults, "rules": shown}))
        return
    for budget, text in defaults.items():
        click.echo(f"{'everybody':<24} {budget:<14} {text}")
    for rule in rules:
        click.echo(f"{rule.subject:<24} {rule.budget:<14} {rule.limits}")


@policy.command("set", cls=Command)
@with_appcontext
@click.argument("subject")
@click.argument("budget", type=_BUDGETS)
@click.argument("text", metavar="LIMITS")
def set_(subject: str, budget: str, text: str) -> None:
    """Give SUBJECT (plan:<name> or role:<name>) LIMITS of its own, such as 900/minute;9/second."""
    container().limit_rules.set(Rule(subject, budget, text))
    _log.warning("limits.rule_set", subject=subject, budget=budget, limits=text, by=who_types())
    click.echo(f"{subject} {budget}: {text}")


@policy.command(cls=Command)
@with_appcontext
@click.argument("subject")
@click.argument("budget", type=_BUDGETS)
def unset(subject: str, budget: str) -> None:
    """Take SUBJECT's own limits back: the settings hold again."""
    container().limit_rules.unset(subject, budget)
    _log.warning("limits.rule_unset", subject=subject, budget=budget, by=who_types())
    click.echo(f"{subject} {budget}: as the settings say")


def _inspection() -> RateInspection:
    return RateInspection(targets(container().settings)[0], container().scripts)


def _identified(text: str) -> str:
    if "@" in text:
        return f"account:{container().accounts.id_of(text)}"
    if text.startswith("address:"):
        return f"address:{_counted(text.removeprefix('address:'))}"
    if not text.startswith(("account:", "login:")):
        takes = "account:<id>, address:<address> or an e-mail address"
        raise click.BadParameter(f"{takes}, not {text!r}", param_hint="IDENTITY")
    return text


def _counted(text: str) -> str:
    """An address as requests from it are counted; empty where there is none, as at a socket."""
    address = address_in(text.removesuffix("/64"))
    if text and address is None:
        raise click.BadParameter(f"{text!r} is no address", param_hint="IDENTITY")
    return counted_as(address) if address else ""


def _show(usages: Sequence[Usage], as_json: bool, nothing: str) -> None:
    if as_json:
        click.echo(json.dumps({"usages": [usage.as_dict() for usage in usages]}))
        return
    for usage in usages:
        used = f"{usage.used} of {usage.amount} in {usage.window_s} s"
        click.echo(f"{usage.share:4.0%}  {shown(usage.identity)}  {shown(usage.limit)}  {used}")
    if not usages:
        click.echo(nothing)
