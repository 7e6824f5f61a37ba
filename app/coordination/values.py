"""Cached values as they are stored: bytes, compressed where that pays."""

from __future__ import annotations

import zlib
from collections.abc import Callable

Load = Callable[[], bytes]
"""Reads a value anew; it opens a fresh session of its own."""

MOST_BYTES = 256 << 10
"""Of one value, as it is stored: a larger one costs all others on its server too much."""

TOO_LARGE = b"-"
"""Stands for a value of more than that: whoever wants it loads it, and waits for nobody."""

_ENTRY_BYTES = 500  # of Python's objects around one entry
_LEAST_BYTES = 2_048
_PLAIN, _DEFLATED = b"=", b"z"
_LEVEL = 1  # of what is gained by more, nothing is worth its time here


def packed(value: bytes) -> bytes:
    """The value behind one byte that says how it is stored, or `TOO_LARGE`."""
    if len(value) < _LEAST_BYTES:
        return _PLAIN + value
    stored = _DEFLATED + zlib.compress(value, _LEVEL)
    return stored if len(stored) <= MOST_BYTES else TOO_LARGE


def unpacked(stored: bytes) -> bytes:
    """The value.

    Raises:
        ValueError: nothing that `packed` has made, or `TOO_LARGE`.
    """
    kind, rest = stored[:1], stored[1:]
    if kind == _PLAIN:
        return rest
    if kind != _DEFLATED:
        raise ValueError(f"no cached value begins with {kind!r}")
    try:
        return zlib.decompress(rest)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def kept_bytes(*parts: str | bytes) -> int:
    """What an entry of these takes in a process's memory, bytes, about."""
    return _ENTRY_BYTES + sum(map(len, parts))
