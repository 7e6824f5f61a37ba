"""Accounts, as an admin sees them."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.schemas.admin import AccountPath, AccountRole, AdminAccount, AdminAccountList
from app.api.schemas.base import PageQuery

_ONESELF = refused("It is the admin's own account.")

blueprint = APIBlueprint(
    "admin",
    __name__,
    url_prefix="/api/v1/admin/accounts",
    abp_tags=[Tag(name="admin", description="For accounts with the role `admin`.")],
    operation_id_callback=named_after_handler,
)


@blueprint.get("", responses={200: AdminAccountList})
def list_accounts(query: PageQuery) -> Response:
    """List all accounts, oldest first."""
    return answer(container().admin.list(actor(), **query.model_dump()))


@blueprint.get("/<uuid:account_id>", responses={200: AdminAccount})
def get_account(path: AccountPath) -> Response:
    """Read one account."""
    return answer(container().admin.get(actor(), path.account_id))


@blueprint.post("/<uuid:account_id>/disable", responses={200: AdminAccount, 409: _ONESELF})
def disable_account(path: AccountPath) -> Response:
    """Refuse an account every request, and end its sessions."""
    return answer(container().admin.disable(actor(), path.account_id))


@blueprint.post("/<uuid:account_id>/enable", responses={200: AdminAccount})
def enable_account(path: AccountPath) -> Response:
    """Let an account log in again."""
    return answer(container().admin.enable(actor(), path.account_id))


@blueprint.put("/<uuid:account_id>/role", responses={200: AdminAccount, 409: _ONESELF})
def set_role(path: AccountPath, body: AccountRole) -> Response:
    """Give an account a role."""
    return answer(container().admin.set_role(actor(), path.account_id, body.role))
