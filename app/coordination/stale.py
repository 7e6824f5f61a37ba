"""What a change makes stale: the tags of some namespaces."""

from __future__ import annotations

from typing import NamedTuple


class Stale(NamedTuple):
    """Every entry of `namespaces` with one of `tags` shows what was before the change."""

    namespaces: tuple[str, ...]
    tags: tuple[str, ...]
