"""Cached values as they are stored: bytes, compressed where that pays."""

from __future__ import annotations

import zlib

_LEAST_BYTES = 2_048
_PLAIN, _DEFLATED = b"=", b"z"
_LEVEL = 1  # of what is gained by more, nothing is worth its time here


def packed(value: bytes) -> bytes:
    """The value behind one byte that says how it is stored."""
    if len(value) < _LEAST_BYTES:
        return _PLAIN + value
    return _DEFLATED + zlib.compress(value, _LEVEL)


def unpacked(stored: bytes) -> bytes:
    """The value.

    Raises:
        ValueError: nothing that `packed` has made.
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
