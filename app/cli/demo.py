"""`flask demo`: real tasks to look at, imported by the service that imports everyone's."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import click
from flask.cli import with_appcontext
from sqlalchemy import select

from app.cli import Command, container
from app.cli.users import new_password
from app.db.enums import Role
from app.db.models import Account
from app.errors import InvalidInput, TaskFlowError
from app.services.actor import Actor

TASKS = Path(__file__).resolve().parents[2] / "demo" / "tasks.csv"


@click.command(cls=Command)
@click.option("--email", default="demo@example.com", show_default=True, help="Whose tasks.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=TASKS,
    help="A CSV file with a column title; by default 1,000 tasks, 200 of them overdue.",
)
@with_appcontext
def demo(email: str, path: Path) -> None:
    """Import tasks from a CSV file into a new project; the account is made if need be."""
    actor, password = _account(email)
    if password:
        click.echo(f"Created the account {email}.\nPassword: {password}")
    project_id, imported = _import(actor, path)
    click.echo(f"Imported {imported} tasks into project {project_id} of {email}.")
    click.echo("The next sweep marks the overdue ones; at once: flask --app wsgi cron run overdue")


def _import(actor: Actor, path: Path) -> tuple[UUID, int]:
    """A new project with the file's tasks; a file that cannot be taken leaves no project."""
    project = container().projects.create(actor, name=f"Demo: {path.name}")
    project_id = UUID(project["id"])
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            report = container().imports.import_csv(actor, project_id, lines)
    except (TaskFlowError, UnicodeDecodeError) as error:
        container().projects.delete(actor, project_id, version=project["version"])
        if isinstance(error, UnicodeDecodeError):
            raise InvalidInput(f"{path.name} is not in UTF-8: {error.reason}.") from error
        raise
    return project_id, report["imported"]


def _account(email: str) -> tuple[Actor, str | None]:
    """The account with this address, or a new one and its password."""
    found = _find(email)
    if found is not None:
        return found, None
    password = new_password()
    account = container().accounts.create(
        email=email, password=password, name="Demo", role=Role.USER
    )
    return Actor(account_id=UUID(account["id"]), session_id=None, role=account["role"]), password


def _find(email: str) -> Actor | None:
    wanted = select(Account).where(Account.email == email.strip().lower())
    with container().db.read() as session:
        account = session.scalar(wanted)
    if account is None:
        return None
    return Actor(account_id=account.id, session_id=None, role=account.role)
