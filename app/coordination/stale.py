"""What a change makes stale: the tags of some namespaces."""

from __future__ import annotations

from typing import NamedTuple, NewType


class Stale(NamedTuple):
    """Every entry of `namespaces` with one of `tags` shows what was before the change."""

    namespaces: tuple[str, ...]
    tags: tuple[str, ...]


History = NewType("History", str)
"""The history of writes, a server's replication id, that has an invalidation. Another that replaces
it may lack it."""

NO_HISTORY = History("")
"""In place of one: nobody else had to be told."""

Heard = dict[Stale, History | None]
"""Of each change the one history that has all of it; None where Redis did not say yes."""
