"""A cache that is not stale: entries carry tags, and tags carry the sequence at which they moved.

Rules (each is a trace that was closed; leave none out):

1. A namespace's keys share a slot: entries `{epoch, s, tags, v}`, `meta {epoch, clock, floor,
   replid}`, and `tags` by score with a sentinel that names the epoch. Meta or tags missing,
   disagreeing, or of another replication id begin a new epoch: everything misses.
2. One script reads: an entry is valid if its epoch is today's, its `s` is not under the floor, and
   none of its tags moved after `s`. A miss returns the sequence and, to one caller, the fill lease.
3. The loader opens a fresh transaction after the miss was answered, on the primary: an earlier
   snapshot would store an old value under the new sequence. `load` must see to that.
4. A store carries the miss's sequence and is refused if a tag, the floor or the epoch moved.
5. Invalidating raises the clock and the tags' scores, after the commit and before the answer.
8. Without Redis: per process, bodies only, for at most 5 s from the start of the load.
9. Tags are pruned by raising the floor. Values are JSON, never pickle.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.invalidation import Invalidations
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.errors import CoordinationError
from app.metrics import Metrics

Load = Callable[[], Any]

_FILL_LEASE_MS = 2_000
_WAIT_S, _WAITS = 0.01, 10
_LEAST_META_TTL_MS = 3_600_000


class MemoryCache:
    """The fallback: this process's own, for at most `ttl_s` from the start of each load.

    A write of this process's own drops its namespace's entries, and a load that began before the
    write is not kept.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 5.0,
        most: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s, self._most, self._clock = ttl_s, most, clock
        self._entries: OrderedDict[tuple[str, str], tuple[float, int, Any]] = OrderedDict()
        self._written: dict[str, int] = {}
        self._sequence = self._floor = 0
        self._lock = threading.Lock()

    def fetch(self, namespace: str, key: str, *, tags: Sequence[str], load: Load) -> Any:  # noqa: ARG002  the port's parameter
        """The value, at most `ttl_s` old."""
        with self._lock:
            began, sequence = self._clock(), self._sequence
            found = self._entries.get((namespace, key))
            if found and began < found[0] and found[1] >= self._written_at(namespace):
                return found[2]
        value = load()
        with self._lock:
            if sequence >= self._written_at(namespace):
                self._entries[namespace, key] = (began + self._ttl_s, sequence, value)
                self._entries.move_to_end((namespace, key))
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        return value

    def invalidate(self, namespace: str, tags: Sequence[str]) -> None:  # noqa: ARG002  the port's parameter
        """Drop the whole namespace: without Redis, simple beats fine."""
        with self._lock:
            self._sequence += 1
            if len(self._written) >= self._most:
                # What is forgotten here still judges the loads that are under way.
                self._floor = self._sequence
                self._written.clear()
            self._written[namespace] = self._sequence

    def invalidate_many(self, namespaces: Sequence[str], tags: Sequence[str]) -> None:
        for namespace in namespaces:
            self.invalidate(namespace, tags)

    def _written_at(self, namespace: str) -> int:
        return self._written.get(namespace, self._floor)


class RedisCache:
    """The shared cache, and `fallback` while Redis is away.

    Args:
        ttl_ms: how long an entry lives at most, ms.
    """

    def __init__(
        self,
        client: Scripting,
        scripts: ScriptRegistry,
        metrics: Metrics,
        *,
        ttl_ms: int,
        fallback: MemoryCache,
    ) -> None:
        self._client, self._fallback, self._ttl_ms = client, fallback, ttl_ms
        self._meta_ttl_ms = max(_LEAST_META_TTL_MS, 2 * ttl_ms)
        self._events = metrics.cache
        self._read = scripts["cache_read.v1"]
        self._store = scripts["cache_store.v1"]
        self._invalidations = Invalidations(
            client,
            scripts["tag_invalidate.v1"],
            metrics,
            ttl_s=ttl_ms / 1000,
            meta_ttl_ms=self._meta_ttl_ms,
        )

    def fetch(self, namespace: str, key: str, *, tags: Sequence[str], load: Load) -> Any:
        """The cached value of `key`, or what `load` returns, stored for the others.

        Args:
            tags: what the value depends on; moving any of them makes it a miss.
            load: reads the database in a transaction of its own and returns a JSON value.
        """
        token = secrets.token_hex(16)
        try:
            self._invalidations.pay()
            reply = self._read_or_wait(namespace, key, token)
        except CoordinationError:
            self._events.labels("fallback").inc()
            return self._fallback.fetch(namespace, key, tags=tags, load=load)
        if reply[0]:
            self._events.labels("hit").inc()
            return orjson.loads(reply[1])
        self._events.labels("miss").inc()
        _, sequence, epoch, leads = reply
        if not leads:
            return load()
        try:
            value = load()
        except BaseException:
            # An epoch that is nobody's: refused, but the fill lease is free for the next caller.
            self._keep(namespace, key, token, 0, b"", tags, None)
            raise
        self._keep(namespace, key, token, sequence, epoch, tags, value)
        return value

    @property
    def owes(self) -> bool:
        """Whether Redis has not been told of every write of this process."""
        return self._invalidations.owes

    def invalidate(self, namespace: str, tags: Sequence[str]) -> None:
        """Make every entry with one of `tags` a miss, everywhere. After the commit; never raises.

        Without an answer it is owed (see `invalidation`).
        """
        self.invalidate_many([namespace], tags)

    def invalidate_many(self, namespaces: Sequence[str], tags: Sequence[str]) -> None:
        """As `invalidate`, for the same tags of several namespaces, in as few calls as can be."""
        self._fallback.invalidate_many(namespaces, tags)
        self._invalidations.send(namespaces, tags)

    def _read_or_wait(self, namespace: str, key: str, token: str) -> Any:
        """One read; while another caller loads, a few more, so that one load serves them all."""
        args: list[Arg] = [token, _FILL_LEASE_MS, secrets.token_hex(8), self._meta_ttl_ms]
        call = Call(self._read, keys.cache(namespace, key), args)
        reply = self._client.call(call)
        for _ in range(_WAITS):
            if reply[0] or reply[3]:
                break
            time.sleep(_WAIT_S)
            reply = self._client.call(call)
        return reply

    def _keep(
        self,
        namespace: str,
        key: str,
        token: str,
        sequence: int,
        epoch: bytes,
        tags: Sequence[str],
        value: Any,
    ) -> None:
        body = orjson.dumps(value)
        args: list[Arg] = [
            token,
            sequence,
            epoch,
            self._ttl_ms,
            self._meta_ttl_ms,
            "\n".join(tags),
            body,
        ]
        try:
            stored = self._client.call(Call(self._store, keys.cache(namespace, key), args))
            self._events.labels("stored" if stored else "store_refused").inc()
        except CoordinationError:
            self._events.labels("store_lost").inc()
