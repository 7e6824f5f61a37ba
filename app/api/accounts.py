"""Accounts: register, who am I, another password, what comes by mail, export and end."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.schemas.accounts import (
    Account,
    Deletion,
    Mailbox,
    MailedToken,
    PasswordChange,
    Registration,
    Reset,
)
from app.api.schemas.export import Export

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


@blueprint.get("/me/export", responses={200: Export})
def export_account() -> Response:
    """Read all that is kept of the account, in one document."""
    return Response(container().export.export(actor()), mimetype="application/json")


@blueprint.post("/me/deletion", responses={204: None})
def delete_account(body: Deletion) -> Response:
    """Delete the account with its projects and their tasks, for good."""
    container().own_account.delete(actor(), password=body.password)
    return no_content()


@blueprint.post("/password-reset", responses={204: None})
def request_password_reset(body: Mailbox) -> Response:
    """Have a token mailed that sets another password. The answer tells nothing of who is here."""
    container().recovery.request_reset(body.email)
    return no_content()


@blueprint.put("/password-reset", responses={204: None})
def reset_password(body: Reset) -> Response:
    """Set another password by a mailed token; every session of the account ends."""
    container().recovery.reset(token=body.token, password=body.password)
    return no_content()


@blueprint.post("/me/verification", responses={204: None})
def request_verification() -> Response:
    """Have a token mailed that shows the account's address to be its owner's."""
    container().recovery.request_verification(actor())
    return no_content()


@blueprint.put("/verification", responses={204: None})
def verify_address(body: MailedToken) -> Response:
    """Show by a mailed token that an address is one's own."""
    container().recovery.verify(body.token)
    return no_content()
