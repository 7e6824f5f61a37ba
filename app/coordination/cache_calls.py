"""The cache's scripts with their arguments: what every call says the same of is said here."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from app.coordination import forks, keys
from app.coordination.scripts import Arg, Call, ScriptRegistry

MOST_TAGS = 1_000

_META_LONGER_MS = 60_000
_BEGUN_TTL_MS = 30_000
_FILL_LEASE_MS = 2_000
_ROOM_BYTES = 4 << 20  # for what is stored in a namespace while an entry lives; it holds twice that


def meta_ttl_ms(entry_ttl_s: int) -> int:
    """How long a namespace's sequence and tags live after a store or a move, ms.

    Longer than its entries, `entry_ttl_s` (seconds); and than `_BEGUN_TTL_MS`, for which a miss
    begins one: so it is told whether anything came of that.
    """
    return 1000 * entry_ttl_s + _META_LONGER_MS


class CacheCalls:
    """The calls of one process, whose threads share each fill lease that one of them has.

    Args:
        ttl_s: how long an entry lives at most, seconds.
    """

    def __init__(self, scripts: ScriptRegistry, *, ttl_s: int) -> None:
        self._read, self._store = scripts["cache_read.v1"], scripts["cache_store.v2"]
        self._abandon, self._move = scripts["cache_abandon.v1"], scripts["tag_invalidate.v2"]
        self._most_ms, self._meta_ttl_ms = 1000 * ttl_s, meta_ttl_ms(ttl_s)
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """As another process: a lease is its holder's."""
        self._token = secrets.token_hex(16)

    def read(self, namespace: str, key: str) -> Call:
        args: list[Arg] = [self._token, _FILL_LEASE_MS, secrets.token_hex(8), _BEGUN_TTL_MS]
        return Call(self._read, keys.cache(namespace, key), args)

    def store(
        self,
        namespace: str,
        key: str,
        stored: bytes,
        *,
        sequence: int,
        epoch: bytes,
        tags: Sequence[str],
        ttl_ms: int,
    ) -> Call:
        lives_ms = min(ttl_ms, self._most_ms)
        args: list[Arg] = [self._token, sequence, epoch, lives_ms, self._meta_ttl_ms]
        args += ["\n".join(tags), stored, _ROOM_BYTES, self._most_ms]
        return Call(self._store, keys.cache(namespace, key), args)

    def abandon(self, namespace: str, key: str) -> Call:
        """Gives up the fill lease, and a namespace that was begun for nothing."""
        names = keys.cache(namespace, key)
        return Call(
            self._abandon, [names.meta, names.tags, names.fill], [self._token, _BEGUN_TTL_MS]
        )

    def invalidate(self, namespace: str, tags: Sequence[str]) -> Call:
        names = keys.cache(namespace, "")
        args: list[Arg] = [secrets.token_hex(8), self._meta_ttl_ms, MOST_TAGS, *tags]
        return Call(self._move, [names.meta, names.tags], args)
