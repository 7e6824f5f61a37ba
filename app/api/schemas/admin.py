"""Accounts as an admin sees them, in and out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.base import Body, View
from app.db.enums import Role


class AccountPath(BaseModel):
    """The address of one account."""

    account_id: UUID


class AccountRole(Body):
    """What an account may do from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "admin"}]})

    role: Role


class AdminAccount(View):
    """An account, as an admin sees it."""

    id: UUID
    email: str
    name: str
    role: Role
    plan: str
    email_verified_at: datetime | None
    disabled_at: datetime | None = Field(description="Since when it may not log in.")
    created_at: datetime
    updated_at: datetime


class AdminAccountList(View):
    """A page of accounts."""

    items: list[AdminAccount]
    next_cursor: str | None
