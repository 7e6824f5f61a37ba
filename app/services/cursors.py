"""Opaque cursors: where a list goes on, by the last row's key and never by a count."""

from __future__ import annotations

import base64
import binascii
import json
from uuid import UUID

from app.errors import FieldError, InvalidInput

CURSOR_MAX = 200
"""Of a cursor's text; ours have 70 characters."""


def encode_cursor(order: str, last_id: UUID) -> str:
    """The cursor behind the row `last_id` of a list in `order`, whose key is the id itself."""
    raw = json.dumps([order, str(last_id)], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *, order: str) -> UUID:
    """The id of the last row seen.

    Raises:
        InvalidInput: not a cursor of ours, or one of a list in another order.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        raw = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        found, last_id = json.loads(raw)
        if found == order:
            return UUID(last_id)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        pass
    reason = "must be a next_cursor of this list, in this order"
    raise InvalidInput("The cursor cannot be taken.", [FieldError("cursor", reason)])
