"""Imports: the whole file or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.db.engine import Database
from app.db.models import Task, TaskLabel
from app.errors import InvalidInput
from app.services.access import see_project, write_project
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.history import write_creations
from app.services.ports import stale_projects
from app.services.task_changes import task_row
from app.services.task_csv import parse_tasks
from app.services.task_rules import NewTask
from app.services.views import ImportReport

T = TypeVar("T")

_BATCH = 500


class ImportService:
    """Brings tasks in from a file."""

    def __init__(self, db: Database, changes: Changes) -> None:
        self._db, self._changes = db, changes

    def import_csv(self, actor: Actor, project_id: UUID, lines: Iterable[str]) -> ImportReport:
        """Store every task of a CSV file in one transaction, or none of them.

        Args:
            lines: as a text file opened with `newline=""` yields them.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            Forbidden: a viewer.
            Conflict: the project is archived.
            InvalidInput: with an entry for everything wrong in every bad row; nothing was stored.
        """
        self._check_sight(actor, project_id)
        parsed = parse_tasks(lines)
        if parsed.errors:
            bad = len({error.field.partition(",")[0] for error in parsed.errors})
            raise InvalidInput(f"{bad} bad rows; nothing was imported.", parsed.errors)
        self._changes.commit(
            lambda session: _store(session, actor, project_id, parsed.tasks),
            lambda _: stale_projects(project_id),
        )
        return {"imported": len(parsed.tasks), "ignored_columns": parsed.ignored_columns}

    def _check_sight(self, actor: Actor, project_id: UUID) -> None:
        with self._db.read() as session:
            see_project(session, actor, project_id)


def _store(session: Session, actor: Actor, project_id: UUID, tasks: Sequence[NewTask]) -> None:
    write_project(session, actor, project_id)
    for batch in _batches(tasks, _BATCH):
        rows = [task_row(project_id, new) for new in batch]
        session.execute(insert(Task), rows)
        write_creations(session, actor, rows)
        labels = _label_rows(rows, batch)
        if labels:
            session.execute(insert(TaskLabel), labels)


def _label_rows(rows: Sequence[dict[str, Any]], tasks: Sequence[NewTask]) -> list[dict[str, Any]]:
    return [
        {"task_id": row["id"], "name": name}
        for row, new in zip(rows, tasks, strict=True)
        for name in new.labels
    ]


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
