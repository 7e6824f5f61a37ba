"""Sessions: log in, refresh, list, end, log out."""

from __future__ import annotations

from flask import Response
from flask_openapi import APIBlueprint, Tag

from app.api.answers import answer, created, no_content
from app.api.context import actor, container
from app.api.openapi import named_after_handler, refused
from app.api.schemas.accounts import Credentials, LogInList, Refresh, Session, SessionPath
from app.api.schemas.base import PageQuery

blueprint = APIBlueprint(
    "sessions",
    __name__,
    url_prefix="/api/v1/sessions",
    abp_tags=[Tag(name="sessions", description="Log-ins, each with a token of its own.")],
    operation_id_callback=named_after_handler,
)


@blueprint.post("", responses={201: Session, 401: refused("E-mail or password is wrong.")})
def log_in(body: Credentials) -> Response:
    """Log in."""
    view = container().accounts.log_in(email=body.email, password=body.password)
    return created(view, "/api/v1/sessions/current")


@blueprint.post(
    "/refresh",
    responses={201: Session, 401: refused("It is unknown or used, or the log-in ended.")},
)
def refresh_session(body: Refresh) -> Response:
    """Go on with a log-in: new tokens, in the place of those of before."""
    view = container().refresh.refresh(body.refresh_token)
    return created(view, "/api/v1/sessions/current")


@blueprint.get("", responses={200: LogInList})
def list_sessions(query: PageQuery) -> Response:
    """List the account's log-ins that have not ended, newest first."""
    return answer(container().sessions.list(actor(), **query.model_dump()))


@blueprint.delete("/<uuid:session_id>", responses={204: None})
def revoke_session(path: SessionPath) -> Response:
    """End one log-in: its token is refused from the next request on."""
    container().sessions.revoke(actor(), path.session_id)
    return no_content()


@blueprint.delete("/current", responses={204: None})
def log_out() -> Response:
    """Log out: the token is refused from the next request on."""
    container().accounts.log_out(actor())
    return no_content()
