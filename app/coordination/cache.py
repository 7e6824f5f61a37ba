"""A cache that is not stale: entries carry tags, and tags carry the sequence at which they moved.

Rules (each is a trace that was closed; leave none out):

1. A namespace's keys share a slot: entries `{epoch, s, tags, v}`, `meta {epoch, clock, floor,
   replid}`, and `tags` by score with a sentinel that names the epoch. Meta or tags missing,
   disagreeing, or of another replication id begin a new epoch: everything misses.
2. One script reads: an entry is valid if its epoch is today's, its `s` is not under the floor, and
   none of its tags moved after `s`. A miss returns the sequence and, to one caller, the fill lease.
   A waiter takes the filled value only if it is valid under its own check.
3. The loader opens a fresh transaction after the miss was answered, on the primary: an earlier
   snapshot would store an old value under the new sequence. `load` must see to that.
4. A store carries the miss's sequence and is refused if a tag, the floor or the epoch moved.
5. Invalidating raises the clock and the tags' scores. It is recorded in the change's own
   transaction, done after the commit and before the answer, and may be repeated.
6. L1 is judged by the sequence that the request's own round trip brought (`local_cache`).
7. The gate (`gate`): L1 and L2 are used only while this process looks after the outbox.
8. Without Redis: per process, bodies only, for at most 5 s from the start of the load.
9. Tags are pruned by raising the floor. Values are bytes of the caller's, never pickled.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import structlog

from app.coordination import deadline, keys
from app.coordination.absent import Scripting
from app.coordination.gate import Gate
from app.coordination.local_cache import Loaded, LocalCache, Visit, current_visit
from app.coordination.memory_cache import MemoryCache
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.coordination.stale import Stale
from app.coordination.values import packed, unpacked
from app.errors import CoordinationError
from app.metrics import Metrics

Load = Callable[[], bytes]

_META_LONGER_MS = 60_000
_BEGUN_TTL_MS = 30_000
_FILL_LEASE_MS = 2_000
_WAIT_FIRST_S, _WAIT_MOST_S, _WAIT_ALL_S = 0.005, 0.05, 3.0
_STRIPES = 256
_AT_ONCE = 100
MOST_TAGS = 1_000
RELAY = "relay"  # the namespace of nobody, by which the server's history is asked
_CLUSTER = "cluster"
_log = structlog.get_logger(__name__)


def meta_ttl_ms(entry_ttl_s: int) -> int:
    """How long a namespace's sequence and tags live after a store or a move, ms.

    Longer than its entries, `entry_ttl_s` (seconds); and than `_BEGUN_TTL_MS`, for which a miss
    begins one: so it is told whether anything came of that.
    """
    return 1000 * entry_ttl_s + _META_LONGER_MS


class RedisCache:
    """The shared cache, this process's copy of it, and `fallback` while neither may be believed.

    Args:
        ttl_s: how long an entry lives at most, seconds.
        gate: kept open by whoever looks after the outbox.
        clustered: namespaces lie on several servers, each with a history of writes of its own. They
            go by one name: a primary that is cut off from a cluster soon stops answering.
    """

    records = True

    def __init__(
        self,
        client: Scripting,
        scripts: ScriptRegistry,
        metrics: Metrics,
        *,
        ttl_s: int,
        fallback: MemoryCache,
        local: LocalCache,
        gate: Gate,
        clustered: bool = False,
    ) -> None:
        self._client, self._fallback, self._ttl_s = client, fallback, ttl_s
        self.local, self.gate, self._clustered = local, gate, clustered
        self._events = metrics.cache
        self._read, self._store = scripts["cache_read.v1"], scripts["cache_store.v1"]
        self._abandon, self._move = scripts["cache_abandon.v1"], scripts["tag_invalidate.v2"]
        self._meta_ttl_ms = meta_ttl_ms(ttl_s)
        # One thread of a process waits for another process's load; the others wait for it.
        self._waiting = [threading.Lock() for _ in range(_STRIPES)]

    def fetch(
        self,
        namespace: str,
        key: str,
        *,
        tags: Sequence[str],
        load: Load,
        ttl_s: int | None = None,
    ) -> bytes:
        """The cached value of `key`, or what `load` returns, stored for the others.

        Args:
            tags: what the value depends on; moving any of them makes it a miss.
            load: reads the database in a transaction of its own.
            ttl_s: seconds, where the value ages by itself.
        """
        if not self.gate.is_open:
            self._events.labels("gated").inc()
            if not self.gate.redis_lost:
                return load()
            return self._fallback.fetch(namespace, key, tags=tags, load=load)
        visit = current_visit()
        held: bytes | None = visit.get(namespace, key) if visit else None
        if held is not None:
            self._events.labels("hit_l1").inc()
            return held
        token = secrets.token_hex(16)
        try:
            reply = self._read_or_wait(namespace, key, token)
        except CoordinationError:
            self._events.labels("fallback").inc()
            return self._fallback.fetch(namespace, key, tags=tags, load=load)
        if reply[0]:
            try:
                return self._hit(visit, namespace, key, reply)
            except ValueError:  # another release's: what it means is not known here
                self._events.labels("unreadable").inc()
                return load()
        self._events.labels("miss").inc()
        _, sequence, epoch, leads = reply
        if not leads:
            return load()
        ttl_ms = 1000 * min(ttl_s or self._ttl_s, self._ttl_s)
        names = keys.cache(namespace, key)
        try:
            value = load()
        except BaseException:
            # The next caller loads at once; and who asks for what is not there leaves no keys.
            places = [names.meta, names.tags, names.fill]
            with contextlib.suppress(CoordinationError):
                self._client.call(Call(self._abandon, places, [token, _BEGUN_TTL_MS]))
            raise
        asked: list[Arg] = [token, sequence, epoch, ttl_ms, self._meta_ttl_ms, "\n".join(tags)]
        if self._keep(names, [*asked, packed(value)]) and visit:
            visit.put(namespace, key, value, Loaded(sequence, tags, ttl_ms, len(value), epoch))
        return value

    def forget(self, changes: Sequence[Stale]) -> dict[Stale, str | None]:
        """Make every entry with the tags of a change a miss, everywhere. Never raises.

        Returns: for each change the history of writes that has all of it (a replication id); None
            where Redis did not say yes, or meanwhile was another server.
        """
        self._fallback.invalidate(each for change in changes for each in change.namespaces)
        places = [(change, each) for change in changes for each in change.namespaces]
        heard: list[str | None] = []
        for at in range(0, len(places), _AT_ONCE):
            heard += self._forget(places[at : at + _AT_ONCE])
        answers = iter(heard)
        # A change is looked up once and not for each answer: its hash takes in every namespace.
        return {change: _in_all(islice(answers, len(change.namespaces))) for change in changes}

    def history(self) -> str:
        """Which history of writes the server belongs to that this process reads.

        Raises:
            CoordinationError: no answer, or it writes no history of its own.
        """
        question = self.local.question(RELAY)
        return self._named(self._client.call(question.call)[3])

    def ask(self, visit: Visit) -> None:
        """Let a request see what it visits, by a round trip of its own; nothing, unanswered."""
        calls = visit.take_calls()
        with contextlib.suppress(CoordinationError):
            visit.heard(self._client.call_many(calls))

    def _forget(self, places: Sequence[tuple[Stale, str]]) -> list[str | None]:
        calls = [self._moving(namespace, change.tags) for change, namespace in places]
        try:
            # Not on the request's budget: a slow read before it must not cost the invalidation.
            with deadline.no_budget():
                replies = self._client.call_many(calls)
        except CoordinationError as error:
            replies = [error] * len(calls)
        return [self._heard(reply) for reply in replies]

    def _heard(self, reply: Any) -> str | None:
        if isinstance(reply, CoordinationError):
            self._events.labels("invalidation_lost").inc()
            _log.warning("cache.invalidation_lost", kind=reply.kind)
            return None
        self._events.labels("invalidation").inc()
        return self._named(reply[1])

    def _named(self, history: bytes) -> str:
        return _CLUSTER if self._clustered else history.decode()

    def _moving(self, namespace: str, tags: Sequence[str]) -> Call:
        names = keys.cache(namespace, "")
        args: list[Arg] = [secrets.token_hex(8), self._meta_ttl_ms, MOST_TAGS, *tags]
        return Call(self._move, [names.meta, names.tags], args)

    def _hit(self, visit: Visit | None, namespace: str, key: str, reply: Sequence[Any]) -> bytes:
        self._events.labels("hit_l2").inc()
        _, sequence, epoch, stored, tags, left_ms = reply
        value = unpacked(stored)
        if visit:
            names = tags.decode().split("\n")
            visit.put(namespace, key, value, Loaded(sequence, names, left_ms, len(value), epoch))
        return value

    def _keep(self, names: keys.CacheKeys, args: Sequence[Arg]) -> bool:
        try:
            stored = bool(self._client.call(Call(self._store, names, args)))
        except CoordinationError:
            self._events.labels("store_lost").inc()
            return False
        self._events.labels("stored" if stored else "store_refused").inc()
        return stored

    def _read_or_wait(self, namespace: str, key: str, token: str) -> Any:
        """One read; while another loads, some more, so that one load serves everybody."""
        args: list[Arg] = [token, _FILL_LEASE_MS, secrets.token_hex(8), _BEGUN_TTL_MS]
        call = Call(self._read, keys.cache(namespace, key), args)
        reply = self._client.call(call)
        if reply[0] or reply[3]:
            return reply
        self._events.labels("wait").inc()
        until, pause_s = time.monotonic() + _WAIT_ALL_S, _WAIT_FIRST_S
        lock = self._waiting[hash((namespace, key)) % _STRIPES]
        if not lock.acquire(timeout=_WAIT_ALL_S):
            return reply
        try:
            while True:
                reply = self._client.call(call)
                if reply[0] or reply[3] or time.monotonic() >= until:
                    return reply
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _WAIT_MOST_S)
        finally:
            lock.release()


def _in_all(histories: Iterable[str | None]) -> str | None:
    """The one history that answered everywhere; "" where nothing was asked."""
    found = set(histories) or {""}
    return found.pop() if len(found) == 1 else None
