"""Personal access tokens, in and out."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.base import Body, Line, View
from app.db.enums import Scope
from app.services.access_tokens import DAYS_MAX, NAME_MAX


class AccessTokenPath(BaseModel):
    """The address of one personal access token."""

    token_id: UUID


class NewAccessToken(Body):
    """A new personal access token."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "backup", "scopes": ["read"], "days": 30}]}
    )

    name: Line = Field(min_length=1, max_length=NAME_MAX)
    scopes: list[Scope] = Field(
        min_length=1, max_length=8, description="`read` for GET and HEAD, `write` for all others."
    )
    days: int = Field(30, ge=1, le=DAYS_MAX, description="How long it is good.")


class AccessToken(View):
    """A personal access token, without itself."""

    id: UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime


class MadeAccessToken(AccessToken):
    """A new one. `token` is shown this once; send it as `Authorization: Bearer <token>`."""

    token: str


class AccessTokenList(View):
    """A page of personal access tokens."""

    items: list[AccessToken]
    next_cursor: str | None
