"""Optimistic locking over HTTP: a version as a strong entity tag (RFC 9110, section 8.8.3)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema

from app.api.compression import plain_tags
from app.api.schemas.base import Parameters, left_out
from app.errors import PreconditionRequired

_TAG = re.compile(r'"v(\d{1,9})"')

# Versions begin at 1: this one is never current, so the service answers 404 or 412 in its order.
NEVER = 0


def tag_of(version: int) -> str:
    """The entity tag of a version, without its quotes."""
    return f"v{version}"


def _version_of(given: Any) -> int:
    """The version that `If-Match` names; a tag that we never made matches nothing.

    Raises:
        PreconditionRequired: no header, or one that would match more than one version.
    """
    if not given or given.strip() == "*" or "," in given:
        raise PreconditionRequired('Send one version that you have read, such as If-Match: "v3".')
    found = _TAG.fullmatch(plain_tags(given.strip()))
    return int(found[1]) if found else NEVER


_Version = Annotated[
    int, BeforeValidator(_version_of), WithJsonSchema({"type": "string", "examples": ['"v3"']})
]


class IfMatch(Parameters):
    """The version that a change is based on."""

    # The default only brings a missing header to the validator, which answers 428, not 422.
    model_config = ConfigDict(json_schema_extra={"required": ["If-Match"]})

    version: _Version = left_out(
        alias="If-Match", validate_default=True, description="The ETag that was read."
    )
