"""Personal access tokens: make, list, end."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler
from app.api.schemas.access_tokens import (
    AccessTokenList,
    AccessTokenPath,
    MadeAccessToken,
    NewAccessToken,
)
from app.api.schemas.base import PageQuery

blueprint = APIBlueprint(
    "access_tokens",
    __name__,
    url_prefix="/api/v1/access-tokens",
    abp_tags=[Tag(name="access tokens", description="For programs: with scopes and an end.")],
    operation_id_callback=named_after_handler,
)


@blueprint.post("", responses={201: MadeAccessToken})
def create_access_token(body: NewAccessToken) -> Response:
    """Make a personal access token; it is shown this once."""
    view = container().access_tokens.create(actor(), **body.model_dump())
    return created(view, f"/api/v1/access-tokens/{view['id']}")


@blueprint.get("", responses={200: AccessTokenList})
def list_access_tokens(query: PageQuery) -> Response:
    """List the account's personal access tokens, newest first."""
    return answer(container().access_tokens.list(actor(), **query.model_dump()))


@blueprint.delete("/<uuid:token_id>", responses={204: None})
def revoke_access_token(path: AccessTokenPath) -> Response:
    """End one: it is refused from the next request on."""
    container().access_tokens.revoke(actor(), path.token_id)
    return no_content()
