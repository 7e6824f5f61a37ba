"""Figures of one project."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer_encoded
from app.api.context import actor, container
from app.api.openapi import named_after_handler
from app.api.schemas.base import ProjectPath
from app.api.schemas.projects import Stats

blueprint = APIBlueprint(
    "stats",
    __name__,
    url_prefix="/api/v1/projects",
    abp_tags=[Tag(name="stats", description="Tasks, counted.")],
    operation_id_callback=named_after_handler,
)


@blueprint.get("/<uuid:project_id>/stats", responses={200: Stats})
def project_stats(path: ProjectPath) -> Response:
    """Count a project's tasks by status, priority and lateness."""
    return answer_encoded(container().stats.project(actor(), path.project_id))
