"""Tasks: one transaction, then the invalidation, then the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.coordination.stale import Stale
from app.db.engine import Database
from app.db.enums import OPEN, TaskStatus
from app.db.models import Task, TaskLabel
from app.db.queries import kept_project, own_project, own_task
from app.db.types import new_id
from app.errors import FieldError, InvalidInput, NotFound, PreconditionFailed
from app.services.actor import Actor
from app.services.changes import Changes, Revealing
from app.services.cursors import encode_cursor
from app.services.encoded import Encoded, encoded
from app.services.hints import Hints
from app.services.ports import (
    AGES_S,
    EVERY_TASK,
    LISTS,
    Cache,
    project_namespace,
    stale_task,
    task_tag,
)
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask, checked_changes
from app.services.views import Page, TaskView, task_view


class TaskService:
    """Each account sees the tasks of its own projects; another's are `NotFound`."""

    def __init__(self, db: Database, changes: Changes, cache: Cache) -> None:
        self._db, self._changes, self._cache = db, changes, cache
        self._project_of: Hints[UUID, UUID] = Hints()

    def create(self, actor: Actor, project_id: UUID, new: NewTask) -> TaskView:
        """Store a new task in a project.

        Raises:
            NotFound: the project is not there, or not the account's.
            InvalidInput: the assignee may not see the project.
        """
        check_assignee(actor, new.assignee_id)

        def store(session: Session) -> tuple[UUID, TaskView]:
            if session.scalar(kept_project(actor.account_id, project_id)) is None:
                raise NotFound("project")
            task = Task(**task_row(project_id, new))
            task.labels = [TaskLabel(name=name) for name in new.labels]
            session.add(task)
            session.flush()
            return task.id, task_view(task)

        _, view = self._changes.commit(store, lambda made: stale_task(project_id, made[0]))
        return view

    def list(self, actor: Actor, project_id: UUID, query: TaskQuery) -> Encoded[Page[TaskView]]:
        """One page of a project's tasks, through the cache.

        Raises:
            NotFound: the project is not there, or not the account's.
        """

        def load() -> bytes:
            return encoded(self._load(actor, project_id, query)).stored()

        stored = self._cache.fetch(
            project_namespace(project_id),
            f"tasks:{query.key(actor.account_id)}",
            tags=[LISTS],
            load=load,
            ttl_s=AGES_S if query.overdue is not None else None,
        )
        return Encoded.of_stored(stored)

    def get(self, actor: Actor, task_id: UUID) -> Encoded[TaskView]:
        """One task; through the cache, once it is known whose project's it is.

        Raises:
            NotFound: it is not there, or not the account's.
        """

        def load() -> bytes:
            return self._load_one(actor, task_id).stored()

        project_id = self._project_of.get(task_id)
        if project_id is None:
            return Encoded.of_stored(load())
        stored = self._cache.fetch(
            project_namespace(project_id),
            f"task:{actor.account_id}:{task_id}",
            tags=[task_tag(task_id), EVERY_TASK],
            load=load,
        )
        return Encoded.of_stored(stored)

    def project_of(self, task_id: UUID) -> UUID | None:
        """The project that a task belongs to, if this process has read it before."""
        return self._project_of.get(task_id)

    def patch(
        self, actor: Actor, task_id: UUID, *, version: int, changes: Mapping[str, Any]
    ) -> TaskView:
        """Change the given fields of what is still at `version`; without a change, keep it.

        Raises:
            NotFound: it is not there, or not the account's.
            PreconditionFailed: someone (the sweep too) changed it meanwhile.
            InvalidInput: a field that cannot be set, or not to this.
        """
        values = checked_changes(changes)
        check_assignee(actor, values.get("assignee_id"))

        def change(session: Session) -> Task:
            task = self._current(session, actor, task_id, version)
            if _apply(task, values):
                task.version += 1
                task.updated_at = datetime.now(UTC)
                session.flush()
            return task

        def stale(task: Task) -> Stale | None:
            return None if task.version == version else stale_task(task.project_id, task.id)

        return task_view(self._changes.commit(change, stale))

    def delete(self, actor: Actor, task_id: UUID, *, version: int) -> None:
        """Delete the task, if still at `version`.

        Raises:
            NotFound: it is not there, or not the account's.
            PreconditionFailed: someone changed it meanwhile.
        """

        def remove(session: Session) -> UUID:
            task = self._current(session, actor, task_id, version)
            session.execute(delete(Task).where(Task.id == task.id))
            return task.project_id

        self._changes.commit(remove, lambda project_id: stale_task(project_id, task_id))

    def _current(self, session: Session, actor: Actor, task_id: UUID, version: int) -> Task:
        task = session.scalar(own_task(actor.account_id, task_id).with_for_update(of=Task))
        if task is None:
            raise self._missing(session, task_id)
        if task.version != version:
            answer = PreconditionFailed("The task was changed meanwhile; read it again.")
            raise Revealing(answer, stale_task(task.project_id, task_id))
        return task

    def _missing(self, session: Session, task_id: UUID) -> Exception:
        """Of a task that this process has read and that is nobody's now, it shows the deletion."""
        answer, project_id = NotFound("task"), self._project_of.get(task_id)
        if project_id is None or session.scalar(select(Task.id).where(Task.id == task_id)):
            return answer
        return Revealing(answer, stale_task(project_id, task_id))

    def _load_one(self, actor: Actor, task_id: UUID) -> Encoded[TaskView]:
        with self._db.read() as session:
            task = session.scalar(own_task(actor.account_id, task_id))
            if task is None:
                raise NotFound("task")
            self._project_of.put(task_id, task.project_id)
            return encoded(task_view(task), version=task.version)

    def _load(self, actor: Actor, project_id: UUID, query: TaskQuery) -> Page[TaskView]:
        with self._db.read() as session:
            found = session.scalars(query.statement(project_id, actor.account_id)).all()
            if not found and session.scalar(own_project(actor.account_id, project_id)) is None:
                raise NotFound("project")
            views = [task_view(task) for task in found[: query.limit]]
        more = len(found) > query.limit
        last = found[query.limit - 1].id if more else None
        return {
            "items": views,
            "next_cursor": None if last is None else encode_cursor(query.order, last),
        }


def check_assignee(actor: Actor, assignee_id: UUID | None) -> None:
    """Only who sees the project can be given its tasks, and that is its owner.

    Raises:
        InvalidInput: someone else, whether or not there is such an account.
    """
    if assignee_id not in (None, actor.account_id):
        reason = "must be an account that may see the project"
        raise InvalidInput("The assignee cannot be taken.", [FieldError("assignee_id", reason)])


def task_row(project_id: UUID, new: NewTask) -> dict[str, Any]:
    """The columns of a new task's row."""
    now = datetime.now(UTC)
    return {
        "id": new_id(),
        "project_id": project_id,
        "title": new.title,
        "description": new.description,
        "status": new.status,
        "priority": new.priority,
        "due_at": new.due_at,
        "assignee_id": new.assignee_id,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "completed_at": now if new.status == TaskStatus.COMPLETED else None,
        "overdue_at": None,
    }


def _apply(task: Task, values: Mapping[str, Any]) -> bool:
    """Set what differs, and what follows from it; returns whether anything did."""
    wanted = dict(values)
    labels = wanted.pop("labels", None)
    changed = {name: value for name, value in wanted.items() if getattr(task, name) != value}
    for name, value in changed.items():
        setattr(task, name, value)
    if "status" in changed:
        done = task.status == TaskStatus.COMPLETED
        task.completed_at = datetime.now(UTC) if done else None
    if "due_at" in changed or task.status not in OPEN:
        task.overdue_at = None
    return _relabel(task, labels) or bool(changed)


def _relabel(task: Task, names: tuple[str, ...] | None) -> bool:
    """Keep the rows of labels that stay: the same key cannot be deleted and inserted at once."""
    before = {label.name: label for label in task.labels}
    if names is None or set(names) == set(before):
        return False
    task.labels = [before.get(name) or TaskLabel(name=name) for name in names]
    return True
