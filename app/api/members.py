"""Members of a project: list, give a role, remove or leave; invite and withdraw."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.refusals import NEEDS_OWNER
from app.api.schemas.base import MemberPath, PageQuery, ProjectPath, SentInvitationPath
from app.api.schemas.members import (
    Member,
    MemberList,
    NewInvitation,
    NewRole,
    SentInvitation,
    SentInvitationList,
)

blueprint = APIBlueprint(
    "members",
    __name__,
    url_prefix="/api/v1/projects/<uuid:project_id>",
    abp_tags=[Tag(name="members", description="Who sees a project, and may do what in it.")],
    operation_id_callback=named_after_handler,
)
_IS_OWNER: dict[str | int, Any] = {
    409: refused("The member is the owner, who can only transfer or delete it.")
}


@blueprint.get("/members", responses={200: MemberList})
def list_members(path: ProjectPath, query: PageQuery) -> Response:
    """List a project's members."""
    page = container().members.list(actor(), path.project_id, **query.model_dump())
    return answer(page)


@blueprint.patch("/members/<uuid:member_id>", responses={200: Member, **NEEDS_OWNER, **_IS_OWNER})
def change_role(path: MemberPath, body: NewRole) -> Response:
    """Give a member another role."""
    view = container().members.change_role(actor(), path.project_id, path.member_id, role=body.role)
    return answer(view)


@blueprint.delete("/members/<uuid:member_id>", responses={204: None, **NEEDS_OWNER, **_IS_OWNER})
def remove_member(path: MemberPath) -> Response:
    """Remove a member, or leave the project oneself."""
    container().members.remove(actor(), path.project_id, path.member_id)
    return no_content()


@blueprint.post(
    "/invitations",
    responses={
        201: SentInvitation,
        **NEEDS_OWNER,
        409: refused("The address is a member's, or invited already."),
    },
)
def invite(path: ProjectPath, body: NewInvitation) -> Response:
    """Invite whoever has an e-mail address, now or later."""
    view = container().invitations.invite(
        actor(), path.project_id, email=body.email, role=body.role
    )
    return created(view, f"/api/v1/projects/{path.project_id}/invitations")


@blueprint.get("/invitations", responses={200: SentInvitationList, **NEEDS_OWNER})
def list_sent_invitations(path: ProjectPath, query: PageQuery) -> Response:
    """List a project's invitations that have not been answered."""
    page = container().invitations.sent(actor(), path.project_id, **query.model_dump())
    return answer(page)


@blueprint.delete("/invitations/<uuid:sent_invitation_id>", responses={204: None, **NEEDS_OWNER})
def withdraw_invitation(path: SentInvitationPath) -> Response:
    """Take back an invitation that has not been answered."""
    container().invitations.withdraw(actor(), path.project_id, path.sent_invitation_id)
    return no_content()
