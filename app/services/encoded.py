"""Answers as bytes: what is cached is sent as it is, without being read and written again."""

from __future__ import annotations

import hashlib
from typing import Generic, NamedTuple, TypeVar, cast

import orjson

T = TypeVar("T")


class Encoded(NamedTuple, Generic[T]):
    """A view as JSON, and what tells it from others: an entity tag without its quotes."""

    tag: str
    json: bytes

    @property
    def value(self) -> T:
        """The view itself."""
        return cast(T, orjson.loads(self.json))

    def stored(self) -> bytes:
        """As a cache keeps it."""
        return self.tag.encode() + b"\n" + self.json

    @classmethod
    def of_stored(cls, stored: bytes) -> Encoded[T]:
        tag, _, json = stored.partition(b"\n")
        return cls(tag.decode(), json)


def encoded(view: T, *, version: int | None = None) -> Encoded[T]:
    """The view as JSON; its tag is its version, or else told by its content."""
    json = orjson.dumps(view) + b"\n"
    if version is not None:
        return Encoded(f"v{version}", json)
    return Encoded(hashlib.blake2b(json, digest_size=12).hexdigest(), json)
