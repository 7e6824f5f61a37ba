"""The cache as services see it: only what is committed comes from it, or goes into it."""

from __future__ import annotations

from collections.abc import Sequence

from app.coordination.stale import History, Stale
from app.coordination.values import Load
from app.db.engine import Database
from app.services.ports import Cache


class CommittedCache:
    """`cache`, passed by within a joined transaction (`Database.joined`).

    What is read there must show that transaction's own changes, which are nobody else's yet.
    """

    def __init__(self, db: Database, cache: Cache) -> None:
        self._db, self._cache = db, cache
        self.records = cache.records

    def fetch(
        self,
        namespace: str,
        key: str,
        *,
        tags: Sequence[str],
        load: Load,
        ttl_s: int | None = None,
    ) -> bytes:
        if self._db.is_joined:
            return load()
        return self._cache.fetch(namespace, key, tags=tags, load=load, ttl_s=ttl_s)

    def invalidate(self, changes: Sequence[Stale]) -> dict[Stale, History | None]:
        return self._cache.invalidate(changes)
