"""`flask users`: accounts that nobody can register for themselves."""

from __future__ import annotations

import secrets
import sys

import click

from app.cli import Commands, container
from app.db.enums import Role

_GENERATED_BYTES = 18


@click.group(cls=Commands)
def users() -> None:
    """Manage accounts."""


@users.command()
@click.option("--email", required=True, help="The address to log in with.")
@click.option("--name", help="What to call the account; by default the address up to the @.")
@click.option("--admin", is_flag=True, help="Make it an operator's account.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--generate-password", is_flag=True, help="Make up a password, and print it once.")
def create(
    email: str, name: str | None, *, admin: bool, password_stdin: bool, generate_password: bool
) -> None:
    """Create an account. Without an option for the password, ask for it."""
    if password_stdin and generate_password:
        raise click.UsageError("--password-stdin and --generate-password exclude each other.")
    password = _password(from_stdin=password_stdin, generated=generate_password)
    account = container().accounts.create(
        email=email,
        password=password,
        name=name or email.partition("@")[0],
        role=Role.ADMIN if admin else Role.USER,
    )
    click.echo(f"Created {account['role']} {account['email']} ({account['id']}).")
    if generate_password:
        click.echo(f"Password: {password}")


@users.command()
@click.argument("email")
@click.argument("plan")
def plan(email: str, plan: str) -> None:
    """Put the account of EMAIL on PLAN, whose limits `flask limits policy` shows."""
    container().accounts.give_plan(email, plan)
    click.echo(f"{email} is on the plan {plan}.")


def new_password() -> str:
    """A password of 144 random bits."""
    return secrets.token_urlsafe(_GENERATED_BYTES)


def _password(*, from_stdin: bool, generated: bool) -> str:
    """Never an argument: every user of a machine can read every process's arguments."""
    if generated:
        return new_password()
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return click.prompt("Password", hide_input=True, confirmation_prompt=True)
