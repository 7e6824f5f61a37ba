"""Accounts: register, who am I, another password."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.schemas.accounts import Account, PasswordChange, Registration

blueprint = APIBlueprint(
    "accounts",
    __name__,
    url_prefix="/api/v1/accounts",
    abp_tags=[Tag(name="accounts", description="Who uses TaskFlow.")],
    operation_id_callback=named_after_handler,
)


@blueprint.post("", responses={201: Account, 409: refused("The e-mail address is taken.")})
def register(body: Registration) -> Response:
    """Register an account."""
    view = container().accounts.register(**body.model_dump())
    return created(view, "/api/v1/accounts/me")


@blueprint.get("/me", responses={200: Account})
def me() -> Response:
    """Read the account that is logged in."""
    return answer(container().accounts.me(actor()))


@blueprint.put("/me/password", responses={204: None})
def change_password(body: PasswordChange) -> Response:
    """Change the password; every other session of the account ends."""
    container().own_account.change_password(actor(), **body.model_dump())
    return no_content()
