"""The stand-in for a Redis that is not configured: every call says so, and callers fall back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from app.coordination import failures
from app.coordination.scripts import Call
from app.coordination.topology import Node


class Scripting(Protocol):
    """What the primitives need of a client; `ScriptClient` documents the methods."""

    purpose: str

    @property
    def is_cut_off(self) -> bool: ...

    def call(self, call: Call) -> Any: ...

    def call_many(self, calls: Sequence[Call]) -> list[Any]: ...

    def block(self, key: str, seconds: float) -> bool: ...

    def nodes(self) -> list[Node]: ...

    def find(self) -> None: ...

    def close(self) -> None: ...


class NoRedis:
    """Raises RedisUnavailable of kind `absent` for every call; nothing to trip or count."""

    is_cut_off = True

    def __init__(self, purpose: str) -> None:
        self.purpose = purpose

    def call(self, call: Call) -> NoReturn:  # noqa: ARG002  the protocol's parameter
        raise failures.of_kind("absent", purpose=self.purpose, detail="none is configured")

    def call_many(self, calls: Sequence[Call]) -> NoReturn:
        self.call(calls[0])

    def block(self, key: str, seconds: float) -> NoReturn:  # noqa: ARG002  the protocol's parameters
        raise failures.of_kind("absent", purpose=self.purpose, detail="none is configured")

    def nodes(self) -> list[Node]:
        return []

    def find(self) -> None:
        """There is nothing to find."""

    def close(self) -> None:
        """There is nothing to close."""
