"""Who takes part in `cache_machine`, and what may be planted in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from app.coordination.local_cache import LocalCache, Question, Visit
from app.coordination.scripts import FOLDER, ScriptRegistry

NAMESPACE = "project:1"
TAGS_OF: Mapping[str, tuple[str, ...]] = {"x": ("a",), "y": ("a", "b")}
LEASE = 60_000
numbers = count()

Value = dict[str, int]
"""Of each tag, the write that is seen."""
Changes = Sequence[tuple[str, str]]
"""What is replaced by what, each of them once, in a script."""


@dataclass
class Faults:
    """What is planted. `scripts`: by id; `early`: loaders look at the database before they miss."""

    scripts: Mapping[str, Changes] = field(default_factory=dict)
    local: Callable[..., LocalCache] = LocalCache
    early: bool = False
    own_moves_seen: bool = False

    def registry(self) -> ScriptRegistry:
        registry = ScriptRegistry.from_folder()
        planted = dict(registry)
        for id_, changes in self.scripts.items():
            source = planted[id_].source
            for right, wrong in changes:
                assert source.count(right) == 1, right
                source = source.replace(right, wrong)
            sha = hashlib.sha1(source.encode()).hexdigest()
            planted[id_] = replace(planted[id_], source=source, sha=sha)
        return ScriptRegistry(planted, FOLDER)


@dataclass
class Request:
    """One request of a process. `told`: the writes that the cache knew of at its answer."""

    visit: Visit
    early: Value  # as an earlier transaction of the process saw the database
    reply: list[Any] | None = None
    told: Value = field(default_factory=dict)
    heard: bool = False


@dataclass
class Load:
    """A miss whose value is under way; None until the database was looked at."""

    request: Request
    key: str
    token: str
    sequence: int
    epoch: bytes
    value: Value | None = None


class Process:
    """A process: its L1, two requests at a time, and its loads."""

    def __init__(self, local: LocalCache) -> None:
        self.local = local
        self.requests: list[Request | None] = [None, None]
        self.earlier: Value = {"a": 0, "b": 0}
        self.loads: list[Load] = []


class NotMerging(LocalCache):
    """Hears how far the clock has come, and not what moved."""

    def heard(self, question: Question, reply: Sequence[Any]) -> Any:
        return super().heard(question, reply[:5])
