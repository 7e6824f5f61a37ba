"""Tasks: create, list, read, change, complete, reopen, delete, and their history."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, answer_encoded, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.refusals import NEEDS_EDITOR
from app.api.schemas.base import PageQuery, ProjectPath, TaskPath
from app.api.schemas.conditions import IfMatch
from app.api.schemas.tasks import History, NewTaskBody, Task, TaskFilters, TaskList, TaskPatch
from app.services.task_query import TaskQuery
from app.services.task_rules import NewTask

blueprint = APIBlueprint(
    "tasks",
    __name__,
    url_prefix="/api/v1",
    abp_tags=[Tag(name="tasks", description="Pieces of work, due at some time or never.")],
    operation_id_callback=named_after_handler,
)


@blueprint.post("/projects/<uuid:project_id>/tasks", responses={201: Task, **NEEDS_EDITOR})
def create_task(path: ProjectPath, body: NewTaskBody) -> Response:
    """Create a task in a project."""
    new = NewTask(**body.model_dump())
    view = container().tasks.create(actor(), path.project_id, new)
    return created(view, f"/api/v1/tasks/{view['id']}")


@blueprint.get("/projects/<uuid:project_id>/tasks", responses={200: TaskList})
def list_tasks(path: ProjectPath, query: TaskFilters) -> Response:
    """List a project's tasks, a page at a time."""
    wanted = TaskQuery(**query.model_dump())
    return answer_encoded(container().tasks.list(actor(), path.project_id, wanted))


@blueprint.get("/tasks/<uuid:task_id>", responses={200: Task})
def get_task(path: TaskPath) -> Response:
    """Read one task."""
    return answer_encoded(container().tasks.get(actor(), path.task_id))


@blueprint.patch("/tasks/<uuid:task_id>", responses={200: Task, **NEEDS_EDITOR})
def patch_task(path: TaskPath, header: IfMatch, body: TaskPatch) -> Response:
    """Change some fields of a task."""
    changes = body.model_dump(exclude_unset=True)
    view = container().tasks.patch(actor(), path.task_id, version=header.version, changes=changes)
    return answer(view)


@blueprint.delete("/tasks/<uuid:task_id>", responses={204: None, **NEEDS_EDITOR})
def delete_task(path: TaskPath, header: IfMatch) -> Response:
    """Delete a task."""
    container().tasks.delete(actor(), path.task_id, version=header.version)
    return no_content()


@blueprint.post(
    "/tasks/<uuid:task_id>/complete",
    responses={
        200: Task,
        **NEEDS_EDITOR,
        409: refused("The task is cancelled, or the project archived."),
    },
)
def complete_task(path: TaskPath) -> Response:
    """Complete a task; again does nothing."""
    return answer(container().tasks.complete(actor(), path.task_id))


@blueprint.post("/tasks/<uuid:task_id>/reopen", responses={200: Task, **NEEDS_EDITOR})
def reopen_task(path: TaskPath) -> Response:
    """Make a completed or cancelled task pending; an open one stays as it is."""
    return answer(container().tasks.reopen(actor(), path.task_id))


@blueprint.get("/tasks/<uuid:task_id>/history", responses={200: History})
def task_history(path: TaskPath, query: PageQuery) -> Response:
    """List what was done to a task and by whom, newest first."""
    return answer(container().history.list(actor(), path.task_id, **query.model_dump()))
