"""Projects: create, list, read, change, delete."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler
from app.api.schemas.base import PageQuery, ProjectPath
from app.api.schemas.conditions import IfMatch
from app.api.schemas.projects import NewProject, Project, ProjectList, ProjectPatch

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
def list_projects(query: PageQuery) -> Response:
    """List the account's projects, oldest first."""
    return answer(container().projects.list(actor(), **query.model_dump()))


@blueprint.get("/<uuid:project_id>", responses={200: Project})
def get_project(path: ProjectPath) -> Response:
    """Read one project."""
    return answer(container().projects.get(actor(), path.project_id))


@blueprint.patch("/<uuid:project_id>", responses={200: Project})
def patch_project(path: ProjectPath, header: IfMatch, body: ProjectPatch) -> Response:
    """Change some fields of a project."""
    changes = body.model_dump(exclude_unset=True)
    view = container().projects.patch(
        actor(), path.project_id, version=header.version, changes=changes
    )
    return answer(view)


@blueprint.delete("/<uuid:project_id>", responses={204: None})
def delete_project(path: ProjectPath, header: IfMatch) -> Response:
    """Delete a project and all its tasks."""
    container().projects.delete(actor(), path.project_id, version=header.version)
    return no_content()
