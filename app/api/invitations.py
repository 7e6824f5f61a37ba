"""Invitations that the account has received: list, accept, decline."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler
from app.api.schemas.base import InvitationPath, PageQuery
from app.api.schemas.members import InvitationList
from app.api.schemas.projects import Project

blueprint = APIBlueprint(
    "invitations",
    __name__,
    url_prefix="/api/v1/invitations",
    abp_tags=[Tag(name="invitations", description="Projects that one is asked to join.")],
    operation_id_callback=named_after_handler,
)


@blueprint.get("", responses={200: InvitationList})
def list_invitations(query: PageQuery) -> Response:
    """List the invitations to the account's e-mail address."""
    return answer(container().invitations.received(actor(), **query.model_dump()))


@blueprint.post("/<uuid:invitation_id>/accept", responses={200: Project})
def accept_invitation(path: InvitationPath) -> Response:
    """Become a member of the project."""
    return answer(container().invitations.accept(actor(), path.invitation_id))


@blueprint.delete("/<uuid:invitation_id>", responses={204: None})
def decline_invitation(path: InvitationPath) -> Response:
    """Refuse to become a member."""
    container().invitations.decline(actor(), path.invitation_id)
    return no_content()
