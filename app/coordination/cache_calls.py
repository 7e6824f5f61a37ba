"""The cache's scripts with their arguments: what every call says the same of is said here."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from app.coordination import forks, keys
from app.coordination.scripts import Arg, Call, ScriptRegistry

META_TTL_MS = 24 * 3_600_000  # of sequences and tags; longer than any entry's
MOST_TAGS = 1_000
RELAY = "relay"  # the namespace of nobody, by which the server's history is asked

_FILL_LEASE_MS = 2_000
_ROOM_BYTES = 4 << 20  # for what is stored in a namespace while an entry lives; it holds twice that


class CacheCalls:
    """The calls of one process, whose threads share each fill lease that one of them has.

    Args:
        ttl_s: how long an entry lives at most, seconds.
    """

    def __init__(self, scripts: ScriptRegistry, *, ttl_s: int) -> None:
        self._read, self._store = scripts["cache_read.v1"], scripts["cache_store.v2"]
        self._move, self._most_ms = scripts["tag_invalidate.v1"], 1000 * ttl_s
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """As another process: a lease is its holder's."""
        self._token = secrets.token_hex(16)

    def read(self, namespace: str, key: str) -> Call:
        args: list[Arg] = [self._token, _FILL_LEASE_MS, secrets.token_hex(8), META_TTL_MS]
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
        args: list[Arg] = [self._token, sequence, epoch, min(ttl_ms, self._most_ms), META_TTL_MS]
        args += ["\n".join(tags), stored, _ROOM_BYTES, self._most_ms]
        return Call(self._store, keys.cache(namespace, key), args)

    def free(self, namespace: str, key: str) -> Call:
        """Gives up the fill lease: a store of an epoch that is nobody's, which is refused."""
        return self.store(namespace, key, b"", sequence=0, epoch=b"", tags=(), ttl_ms=0)

    def invalidate(self, namespace: str, tags: Sequence[str]) -> Call:
        names = keys.cache(namespace, "")
        args: list[Arg] = [secrets.token_hex(8), META_TTL_MS, MOST_TAGS, *tags]
        return Call(self._move, [names.meta, names.tags], args)
