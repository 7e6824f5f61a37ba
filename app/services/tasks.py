"""Tasks: one transaction, then the invalidation, then the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.coordination.stale import Stale
from app.db.engine import Database
from app.db.enums import OPEN, Action, TaskStatus
from app.db.models import Task, TaskLabel
from app.db.queries import held_task, kept_member, seen_tasks
from app.errors import Conflict, FieldError, InvalidInput, NotFound, PreconditionFailed
from app.services.access import Right, check_open, check_right, see_project, write_project
from app.services.actor import Actor
from app.services.changes import Changes, Revealing
from app.services.cursors import encode_cursor
from app.services.encoded import Encoded, encoded
from app.services.hints import Hints
from app.services.history import write_change, write_creations
from app.services.ports import (
    AGES_S,
    EVERY_TASK,
    LISTS,
    Cache,
    member_tag,
    project_namespace,
    stale_task,
    task_tag,
)
from app.services.task_changes import apply, task_row
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask, checked_changes
from app.services.views import Page, TaskView, task_view


class TaskService:
    """Each account sees the tasks of the projects it is a member of; others are `NotFound`."""

    def __init__(self, db: Database, changes: Changes, cache: Cache) -> None:
        self._db, self._changes, self._cache = db, changes, cache
        self._project_of: Hints[UUID, UUID] = Hints()

    def create(self, actor: Actor, project_id: UUID, new: NewTask) -> TaskView:
        """Store a new task in a project.

        Raises:
            NotFound: the project is not there, or the actor is no member.
            Forbidden: a viewer.
            Conflict: the project is archived.
            InvalidInput: the assignee is no member of the project.
        """

        def store(session: Session) -> tuple[UUID, TaskView]:
            write_project(session, actor, project_id)
            if new.assignee_id is not None:
                check_assignee(session.scalar(kept_member(project_id, new.assignee_id)))
            row = task_row(project_id, new)
            task = Task(**row)
            task.labels = [TaskLabel(name=name) for name in new.labels]
            session.add(task)
            session.flush()
            write_creations(session, actor, [row])
            return task.id, task_view(task)

        _, view = self._changes.commit(store, lambda made: stale_task(project_id, made[0]))
        return view

    def list(self, actor: Actor, project_id: UUID, query: TaskQuery) -> Encoded[Page[TaskView]]:
        """One page of a project's tasks, through the cache.

        Raises:
            NotFound: the project is not there, or the actor is no member.
        """

        def load() -> bytes:
            return encoded(self._load(actor, project_id, query)).stored()

        stored = self._cache.fetch(
            project_namespace(project_id),
            f"tasks:{query.key(actor.account_id)}",
            tags=[LISTS, member_tag(actor.account_id)],
            load=load,
            ttl_s=AGES_S if query.overdue is not None else None,
        )
        return Encoded.of_stored(stored)

    def get(self, actor: Actor, task_id: UUID) -> Encoded[TaskView]:
        """One task; through the cache, once it is known whose project's it is.

        Raises:
            NotFound: it is not there, or the actor is no member of its project.
        """

        def load() -> bytes:
            return self._load_one(actor, task_id).stored()

        project_id = self._project_of.get(task_id)
        if project_id is None:
            return Encoded.of_stored(load())
        stored = self._cache.fetch(
            project_namespace(project_id),
            f"task:{actor.account_id}:{task_id}",
            tags=[task_tag(task_id), EVERY_TASK, member_tag(actor.account_id)],
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
            NotFound: it is not there, or the actor is no member of its project.
            Forbidden: a viewer.
            Conflict: the project is archived.
            PreconditionFailed: someone (the sweep too) changed it meanwhile.
            InvalidInput: a field that cannot be set, or not to this; an assignee who is no member.
        """
        values = checked_changes(changes)
        given_to = values.get("assignee_id")
        return self._change(
            actor, task_id, Action.CHANGED, lambda _: values, version=version, given_to=given_to
        )

    def complete(self, actor: Actor, task_id: UUID) -> TaskView:
        """Complete an open task; one that is completed stays as it is.

        Raises:
            NotFound, Forbidden: as `patch`.
            Conflict: it is cancelled, or the project archived.
        """

        def completed(task: Task) -> Mapping[str, Any]:
            if task.status == TaskStatus.CANCELLED:
                answer = Conflict("A cancelled task cannot be completed; reopen it first.")
                raise Revealing(answer, stale_task(task.project_id, task_id))
            return {"status": str(TaskStatus.COMPLETED)}

        return self._change(actor, task_id, Action.COMPLETED, completed)

    def reopen(self, actor: Actor, task_id: UUID) -> TaskView:
        """Make a completed or cancelled task pending; an open one stays as it is.

        Raises:
            NotFound, Forbidden, Conflict: as `patch`.
        """

        def reopened(task: Task) -> Mapping[str, Any]:
            return {} if task.status in OPEN else {"status": str(TaskStatus.PENDING)}

        return self._change(actor, task_id, Action.REOPENED, reopened)

    def delete(self, actor: Actor, task_id: UUID, *, version: int) -> None:
        """Delete the task, if still at `version`, and its history.

        Raises:
            NotFound, Forbidden, Conflict, PreconditionFailed: as `patch`.
        """

        def remove(session: Session) -> UUID:
            task = self._held(session, actor, task_id, version)
            session.execute(delete(Task).where(Task.id == task.id))
            return task.project_id

        self._changes.commit(remove, lambda project_id: stale_task(project_id, task_id))

    def _change(
        self,
        actor: Actor,
        task_id: UUID,
        action: Action,
        values_for: Callable[[Task], Mapping[str, Any]],
        *,
        version: int | None = None,
        given_to: UUID | None = None,
    ) -> TaskView:
        """One change of one task with its history: what `values_for` says of the task, locked."""

        def unit(session: Session) -> tuple[Task, bool]:
            member_id = _kept_fellow(session, task_id, given_to)
            task = self._held(session, actor, task_id, version)
            if given_to is not None:
                check_assignee(member_id)
            changes = apply(task, values_for(task))
            if changes:
                session.flush()
                write_change(session, actor, task, action, changes)
            # What an action finds done already shows a change whose own answer may have been lost.
            return task, bool(changes) or version is None

        def stale(made: tuple[Task, bool]) -> Stale | None:
            task, shows_a_change = made
            return stale_task(task.project_id, task.id) if shows_a_change else None

        return task_view(self._changes.commit(unit, stale)[0])

    def _held(self, session: Session, actor: Actor, task_id: UUID, version: int | None) -> Task:
        row = session.execute(held_task(actor.account_id, task_id)).one_or_none()
        if row is None:
            raise self._missing(session, task_id)
        task, role, archived_at = row
        check_right(role, Right.WRITE)
        check_open(archived_at)
        if version not in (None, task.version):
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
            task = session.scalar(seen_tasks(actor.account_id).where(Task.id == task_id))
            if task is None:
                raise NotFound("task")
            self._project_of.put(task_id, task.project_id)
            return encoded(task_view(task), version=task.version)

    def _load(self, actor: Actor, project_id: UUID, query: TaskQuery) -> Page[TaskView]:
        with self._db.read() as session:
            found = session.scalars(query.statement(project_id, actor.account_id)).all()
            if not found:
                see_project(session, actor, project_id)
            views = [task_view(task) for task in found[: query.limit]]
        more = len(found) > query.limit
        last = found[query.limit - 1].id if more else None
        return {
            "items": views,
            "next_cursor": None if last is None else encode_cursor(query.order, last),
        }


def check_assignee(member_id: UUID | None) -> None:
    """
    Args:
        member_id: the assignee as the project's members have it, kept there; None if they do not.

    Raises:
        InvalidInput: no member, whether or not there is such an account.
    """
    if member_id is None:
        reason = "must be a member of the project"
        raise InvalidInput("The assignee cannot be taken.", [FieldError("assignee_id", reason)])


def _kept_fellow(session: Session, task_id: UUID, account_id: UUID | None) -> UUID | None:
    """The account, if it is a member of the task's project, kept there."""
    if account_id is None:
        return None
    project_id = select(Task.project_id).where(Task.id == task_id).scalar_subquery()
    return session.scalar(kept_member(project_id, account_id))
