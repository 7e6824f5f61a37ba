"""The overdue sweep's own work: marking, in batches. When and by whom is the scheduler's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import (
    FromClause,
    Insert,
    Select,
    Update,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.orm import Session

from app.db.models import Outbox, Task
from app.db.queries import is_late
from app.db.types import db_json_object, db_new_id, db_now, db_rfc3339
from app.services.changes import Changes, Note
from app.services.ports import stale_projects

EVENT = "task.overdue"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch did: 0 rows means that none was left, or that others hold what is left.

    `note` is of what caches must be told once it has committed.
    """

    rows: int
    note: Note | None


class SweepService:
    """Marks overdue tasks. `overdue_at IS NULL` is the cursor: a successor just goes on."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def run_batch(self, session: Session, *, limit: int, skip_locked: bool = True) -> Batch:
        """Mark up to `limit` tasks that are overdue now, and write their events.

        Args:
            session: of the caller's transaction, which began with the fenced renewal.
            skip_locked: pass by rows that others hold (PostgreSQL); without it, wait for them.
        """
        mark = _mark(limit, skip_locked=skip_locked)
        if session.get_bind().dialect.name == "postgresql":
            marked = {row.project_id: row.tasks for row in session.execute(_at_once(mark))}
        else:
            marked = _in_turn(session, mark)
        note = self._changes.record(session, stale_projects(*marked))
        return Batch(rows=sum(marked.values()), note=note)

    def any_left(self, session: Session) -> bool:
        """Whether an overdue task is unmarked."""
        return bool(session.scalar(select(exists().where(is_late(), Task.overdue_at.is_(None)))))

    def count(self, session: Session) -> int:
        """How many overdue tasks are unmarked."""
        unmarked = select(func.count()).where(is_late(), Task.overdue_at.is_(None))
        return session.scalar(unmarked) or 0

    def tell(self, notes: Sequence[Note]) -> None:
        """After their batches' commits: caches are told what these made stale."""
        self._changes.tell(notes)


def _mark(limit: int, *, skip_locked: bool) -> Update:
    """The rows are chosen in a CTE, which a lock keeps PostgreSQL from running twice."""
    chosen = (
        select(Task.id)
        .where(is_late(), Task.overdue_at.is_(None))
        .order_by(Task.due_at)
        .limit(limit)
        .with_for_update(skip_locked=skip_locked)
        .cte("chosen")
    )
    return (
        update(Task)
        .where(Task.id.in_(select(chosen.c.id)))
        .values(overdue_at=db_now(), updated_at=db_now(), version=Task.version + 1)
        .returning(Task.id, Task.project_id, Task.due_at, Task.overdue_at)
        .execution_options(synchronize_session=False)
    )


def _at_once(mark: Update) -> Select[UUID, int]:
    """Mark and write the events in one statement, which gives the rows of each project.

    No task leaves the database, and none is looked up again.
    """
    marked = mark.cte("marked")
    project_id = marked.c.project_id
    counts = select(project_id, func.count().label("tasks")).group_by(project_id)
    return counts.add_cte(_tell(marked).cte("told"))


def _in_turn(session: Session, mark: Update) -> dict[UUID, int]:
    """As `_at_once` on SQLite, where a statement changes one table."""
    marked = session.execute(mark).all()
    if marked:
        tasks = select(Task).where(Task.id.in_([row.id for row in marked]))
        session.execute(_tell(tasks.subquery("marked")))
    return Counter(row.project_id for row in marked)


def _tell(marked: FromClause) -> Insert:
    """The events of tasks just marked, made where they are stored: sending them costs twice."""
    task = marked.c
    events = select(
        db_new_id(),
        literal(EVENT),
        task.id,
        task.project_id,
        db_json_object(due_at=db_rfc3339(task.due_at), overdue_at=db_rfc3339(task.overdue_at)),
        task.overdue_at,
    )
    return insert(Outbox).from_select(
        ["id", "kind", "subject_id", "project_id", "payload", "created_at"], events
    )
