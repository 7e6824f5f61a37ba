"""Members and invitations, in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.schemas.accounts import EMAIL_MAX
from app.api.schemas.base import Body, Text, View
from app.db.enums import MemberRole

GivenRole = Literal[MemberRole.EDITOR, MemberRole.VIEWER]


class NewRole(Body):
    """Another role for a member."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "viewer"}]})

    role: GivenRole


class NewInvitation(Body):
    """An invitation to whoever has the address."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "bea@example.com", "role": "editor"}]}
    )

    email: Text = Field(max_length=EMAIL_MAX, json_schema_extra={"format": "email"})
    role: GivenRole


class Member(View):
    """An account in a project."""

    account_id: UUID
    name: str
    email: str
    role: MemberRole
    created_at: datetime


class MemberList(View):
    """A page of members."""

    items: list[Member]
    next_cursor: str | None


class SentInvitation(View):
    """An invitation that has not been answered. Whether the address has an account is not told."""

    id: UUID
    email: str
    role: MemberRole
    created_at: datetime


class SentInvitationList(View):
    """A page of a project's invitations."""

    items: list[SentInvitation]
    next_cursor: str | None


class Invitation(View):
    """An invitation to the account that is logged in."""

    id: UUID
    project_id: UUID
    project_name: str
    role: MemberRole
    created_at: datetime


class InvitationList(View):
    """A page of the account's invitations."""

    items: list[Invitation]
    next_cursor: str | None
