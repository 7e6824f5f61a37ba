"""All that is kept of an account, as one JSON document made piece by piece: memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload

from app.db.engine import Database
from app.db.enums import MemberRole
from app.db.models import AccessToken, Account, AccountSession, Project, Task
from app.db.queries import after
from app.errors import NotFound
from app.services.access_tokens import access_token_view
from app.services.actor import Actor
from app.services.sessions import log_in_view
from app.services.views import account_view, project_view, task_view

_AT_ONCE = 500


class ExportService:
    """Reads in pages: what changes meanwhile is in it as it was, or as it is."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def export(self, actor: Actor) -> Iterator[bytes]:
        """The account, its log-ins and personal tokens, its projects, and their tasks.

        Returns:
            The document's pieces; the database is asked for each when it is taken.

        Raises:
            NotFound: the account was deleted meanwhile.
        """
        with self._db.read() as session:
            account = session.get(Account, actor.account_id)
        if account is None:
            raise NotFound("account")
        return self._pieces(actor, account)

    def _pieces(self, actor: Actor, account: Account) -> Iterator[bytes]:
        me = account.id
        sessions = select(AccountSession).where(AccountSession.account_id == me)
        tokens = select(AccessToken).where(AccessToken.account_id == me)
        projects = select(Project).where(Project.owner_id == me)
        owned = self._rows(projects, Project)
        yield b'{"account":' + orjson.dumps(account_view(account))
        log_ins = self._rows(sessions, AccountSession)
        yield from _array("sessions", (log_in_view(each, actor) for each in log_ins))
        made = self._rows(tokens, AccessToken)
        yield from _array("access_tokens", map(access_token_view, made))
        yield from _array("projects", (project_view(each, MemberRole.OWNER) for each in owned))
        yield from _array("tasks", map(task_view, self._tasks(projects)))
        yield b"}\n"

    def _tasks(self, projects: Select[Project]) -> Iterator[Task]:
        """Project by project: the index that gives them in order is one for each."""
        for project in self._rows(projects, Project):
            tasks = select(Task).where(Task.project_id == project.id)
            yield from self._rows(tasks.options(selectinload(Task.labels)), Task)

    def _rows(self, rows: Select[Any], table: Any) -> Iterator[Any]:
        last = None
        while True:
            with self._db.read() as session:
                found = session.scalars(after(rows, table.id, last, falling=False).limit(_AT_ONCE))
                page = found.all()
            yield from page
            if len(page) < _AT_ONCE:
                return
            last = page[-1].id


def _array(name: str, views: Iterable[Any]) -> Iterator[bytes]:
    yield b',"' + name.encode() + b'":['
    for number, view in enumerate(views):
        yield (b"," if number else b"") + orjson.dumps(view)
    yield b"]"
