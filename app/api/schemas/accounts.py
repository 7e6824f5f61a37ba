"""Accounts and log-ins, in and out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.base import Body, Line, Text, View
from app.db.enums import Role
from app.services.accounts import NAME_MAX
from app.services.password_rules import PASSWORD_MAX, PASSWORD_MIN

EMAIL_MAX = 254
TOKEN_MAX = 200


class Registration(Body):
    """A new account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"email": "ann@example.com", "password": "correct horse", "name": "Ann"},
            ]
        },
    )

    email: Text = Field(max_length=EMAIL_MAX, json_schema_extra={"format": "email"})
    password: Text = Field(repr=False, min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)
    name: Line = Field(min_length=1, max_length=NAME_MAX)


class Credentials(Body):
    """A log-in. Nothing but the size is checked: a strange e-mail is just a wrong one."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"email": "ann@example.com", "password": "correct horse"}]},
    )

    email: Text = Field(max_length=EMAIL_MAX)
    password: Text = Field(repr=False, max_length=PASSWORD_MAX)


class Mailbox(Body):
    """An e-mail address, whosever it is. A strange one is just one that nobody has."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ann@example.com"}]})

    email: Text = Field(max_length=EMAIL_MAX)


class MailedToken(Body):
    """A token that came by mail."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"token": "x" * 43}]})

    token: Text = Field(repr=False, max_length=TOKEN_MAX)


class Reset(MailedToken):
    """Another password, by a token that came by mail."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"token": "x" * 43, "password": "battery staple"}]}
    )

    password: Text = Field(repr=False, min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)


class PasswordChange(Body):
    """Another password. What is tried first is refused: `Password1`, `12345678`, one's own name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"current_password": "correct horse", "new_password": "battery staple"},
            ]
        },
    )

    current_password: Text = Field(repr=False, max_length=PASSWORD_MAX)
    new_password: Text = Field(repr=False, min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)


class Account(View):
    """An account, as its owner sees it."""

    id: UUID
    email: str
    name: str
    role: Role
    email_verified_at: datetime | None = Field(description="Null until it is shown to be theirs.")
    created_at: datetime


class Refresh(Body):
    """The refresh token that came last. One that comes twice ends the log-in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "x" * 43}]})

    refresh_token: Text = Field(repr=False, max_length=TOKEN_MAX)


class Session(View):
    """A log-in. The token is shown this once; send it as `Authorization: Bearer <token>`."""

    token: str
    token_type: Literal["Bearer"]
    expires_at: datetime = Field(description="When the token ends; refresh the log-in before.")
    refresh_token: str
    refresh_expires_at: datetime = Field(description="When the log-in ends if not refreshed.")
    account: Account


class SessionPath(BaseModel):
    """The address of one log-in."""

    session_id: UUID


class LogIn(View):
    """A log-in that has not ended, without its token."""

    id: UUID
    current: bool = Field(description="Whether it is the one that asks.")
    created_at: datetime
    expires_at: datetime


class Deletion(Body):
    """The end of one's own account, with all of its projects. It cannot be undone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"password": "correct horse"}]})

    password: Text = Field(repr=False, max_length=PASSWORD_MAX)


class LogInList(View):
    """A page of log-ins."""

    items: list[LogIn]
    next_cursor: str | None
