"""What a handler may ask of its surroundings: the parts, and who is asking."""

from __future__ import annotations

from typing import cast

from flask import current_app, g

from app.bootstrap import Container
from app.errors import Unauthenticated
from app.services.actor import Actor

EXTENSION = "taskflow"


def container() -> Container:
    """The parts that `bootstrap.build` made for this application."""
    return cast(Container, current_app.extensions[EXTENSION])


def actor() -> Actor:
    """The account that this request acts for.

    Raises:
        Unauthenticated: in a handler whose endpoint is public.
    """
    found = cast("Actor | None", g.get("actor"))
    if found is None:
        raise Unauthenticated("This needs a log-in.")
    return found
