"""Projects: create, list, read, change, archive, transfer, delete."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.refusals import NEEDS_OWNER
from app.api.schemas.base import ProjectPath
from app.api.schemas.conditions import IfMatch
from app.api.schemas.projects import (
    NewProject,
    Project,
    ProjectFilters,
    ProjectList,
    ProjectPatch,
    Transfer,
)

blueprint = APIBlueprint(
    "projects",
    __name__,
    url_prefix="/api/v1/projects",
    abp_tags=[Tag(name="projects", description="What tasks belong to.")],
    operation_id_callback=named_after_handler,
)


@blueprint.post("", responses={201: Project})
def create_project(body: NewProject) -> Response:
    """Create a project."""
    view = container().projects.create(actor(), **body.model_dump())
    return created(view, f"/api/v1/projects/{view['id']}")


@blueprint.get("", responses={200: ProjectList})
def list_projects(query: ProjectFilters) -> Response:
    """List the account's own projects and those it is a member of, oldest first."""
    return answer(container().projects.list(actor(), **query.model_dump()))


@blueprint.get("/<uuid:project_id>", responses={200: Project})
def get_project(path: ProjectPath) -> Response:
    """Read one project."""
    return answer(container().projects.get(actor(), path.project_id))


@blueprint.patch(
    "/<uuid:project_id>",
    responses={200: Project, **NEEDS_OWNER, 409: refused("The project is archived.")},
)
def patch_project(path: ProjectPath, header: IfMatch, body: ProjectPatch) -> Response:
    """Change some fields of a project."""
    changes = body.model_dump(exclude_unset=True)
    view = container().projects.patch(
        actor(), path.project_id, version=header.version, changes=changes
    )
    return answer(view)


@blueprint.delete("/<uuid:project_id>", responses={204: None, **NEEDS_OWNER})
def delete_project(path: ProjectPath, header: IfMatch) -> Response:
    """Delete a project and all its tasks."""
    container().projects.delete(actor(), path.project_id, version=header.version)
    return no_content()


@blueprint.post("/<uuid:project_id>/archive", responses={200: Project, **NEEDS_OWNER})
def archive_project(path: ProjectPath) -> Response:
    """Let a project and its tasks be read only."""
    return answer(container().projects.archive(actor(), path.project_id))


@blueprint.post("/<uuid:project_id>/unarchive", responses={200: Project, **NEEDS_OWNER})
def unarchive_project(path: ProjectPath) -> Response:
    """Let an archived project and its tasks be changed again."""
    return answer(container().projects.unarchive(actor(), path.project_id))


@blueprint.post("/<uuid:project_id>/transfer", responses={200: Project, **NEEDS_OWNER})
def transfer_project(path: ProjectPath, body: Transfer) -> Response:
    """Make another member the owner, and oneself an editor."""
    return answer(container().members.transfer(actor(), path.project_id, body.member_id))
