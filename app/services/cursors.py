"""Opaque cursors: where a list goes on, by the last row's key and never by a count."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from app.errors import FieldError, InvalidInput

T = TypeVar("T")

CURSOR_MAX = 200
"""Of a cursor's text; ours have 70 characters."""
_VERSION = re.compile(r"[0-9]{1,9}")


def encode_cursor(order: str, last: UUID | int) -> str:
    """The cursor behind the row of a list in `order` whose key is `last`: an id, or a version."""
    raw = json.dumps([order, str(last)], separators=(",", ":"))
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *, order: str) -> UUID:
    """The id of the last row seen.

    Raises:
        InvalidInput: not a cursor of ours, or one of a list in another order.
    """
    return _decoded(cursor, order, UUID)


def decode_version(cursor: str, *, order: str) -> int:
    """The version of the last row seen, in a list that goes by versions.

    Raises:
        InvalidInput: as `decode_cursor`.
    """
    return _decoded(cursor, order, _version)


def _version(text: str) -> int:
    if not _VERSION.fullmatch(text):
        raise ValueError
    return int(text)


def _decoded(cursor: str, order: str, read: Callable[[str], T]) -> T:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        raw = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
        found, last = json.loads(raw)
        if found == order:
            return read(last)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        pass
    reason = "must be a next_cursor of this list, in this order"
    raise InvalidInput("The cursor cannot be taken.", [FieldError("cursor", reason)])
