"""A cache that is not stale: entries carry tags, and tags carry the sequence at which they moved.

Rules (each is a trace that was closed; leave none out):

1. A namespace's keys share a slot: entries `{epoch, s, tags, v}`, `meta {epoch, clock, floor,
   replid}`, and `tags` by score with a sentinel that names the epoch. Meta or tags missing,
   disagreeing, or of another replication id begin a new epoch: everything misses.
2. One script reads: an entry is valid if its epoch is today's, its `s` is not under the floor, and
   none of its tags moved after `s`. A miss returns the sequence and, to one caller, the fill lease.
   A waiter takes the filled value only if it is valid under its own check; a thread that was told
   the same sequence as one that loads beside it, that one's value or error (`flights`).
3. The loader opens a fresh transaction after the miss was answered, on the primary: an earlier
   snapshot would store an old value under the new sequence. `load` must see to that.
4. A store carries the miss's sequence and is refused if a tag, the floor or the epoch moved.
5. Invalidating raises the clock and the tags' scores. It is recorded in the change's own
   transaction, done after the commit and before the answer, and may be repeated.
6. L1 is judged by the sequence that the request's own round trip brought (`local_cache`).
7. The gate (`gate`): L1 and L2 are used only while this process looks after the outbox; else the
   database, and the memory of 8 once Redis is lost.
8. Without Redis: per process, bodies only, for at most 5 s from the start of the load.
9. Tags are pruned by raising the floor. Values are bytes of the caller's, never pickled; one is
   bounded (`values`), and a namespace's together (`cache_calls`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import structlog

from app.coordination import deadline, failures
from app.coordination.absent import Scripting
from app.coordination.cache_calls import CacheCalls
from app.coordination.flights import Flight, Flights
from app.coordination.gate import Gate
from app.coordination.local_cache import Loaded, LocalCache, Visit, current_visit
from app.coordination.memory_cache import MemoryCache
from app.coordination.scripts import ScriptRegistry
from app.coordination.stale import NO_HISTORY, Heard, History, Stale
from app.coordination.values import TOO_LARGE, Load, packed, unpacked
from app.errors import CoordinationError
from app.metrics import Metrics

_WAIT_FIRST_S, _WAIT_MOST_S, _WAIT_ALL_S = 0.005, 0.05, 3.0
_AT_ONCE = 100
RELAY = "relay"  # the namespace of nobody, by which the server's history is asked
_CLUSTER = History("cluster")
_STORED = ("store_refused", "stored", "no_room")  # by what the script says
_log = structlog.get_logger(__name__)


class _Wanted(NamedTuple):
    """What a caller of `fetch` asks for."""

    namespace: str
    key: str
    tags: Sequence[str]
    load: Load
    ttl_ms: int


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
        self._calls, self._flights = CacheCalls(scripts, ttl_s=ttl_s), Flights()

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
        ttl_ms = 1000 * min(ttl_s or self._ttl_s, self._ttl_s)
        wanted = _Wanted(namespace, key, tags, load, ttl_ms)
        if not self.gate.is_open:
            return self._gated(wanted)
        visit = current_visit()
        held: bytes | None = visit.get(namespace, key) if visit else None
        if held is not None:
            self._events.labels("hit_l1").inc()
            return held
        try:
            reply = self._read(wanted)
        except CoordinationError as error:
            self._events.labels("fallback").inc()
            if failures.may_have_run(error):
                self._abandon(wanted)  # or the others would wait for a load that is not to come
            return self._remembered(wanted)
        return self._hit(wanted, reply) if reply[0] else self._missed(wanted, reply)

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        """Make every entry with the tags of a change a miss, everywhere. Never raises.

        Returns: which history has each; None also where Redis meanwhile was another server.
        """
        self._fallback.drop(each for change in changes for each in change.namespaces)
        places = [(change, each) for change in changes for each in change.namespaces]
        heard: list[History | None] = []
        for at in range(0, len(places), _AT_ONCE):
            heard += self._invalidate(places[at : at + _AT_ONCE])
        answers = iter(heard)
        # A change is looked up once and not for each answer: its hash takes in every namespace.
        return {change: _in_all(islice(answers, len(change.namespaces))) for change in changes}

    def history(self) -> History:
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

    def _invalidate(self, places: Sequence[tuple[Stale, str]]) -> list[History | None]:
        calls = [self._calls.invalidate(namespace, change.tags) for change, namespace in places]
        try:
            # Not on the request's budget: a slow read before it must not cost the invalidation.
            with deadline.no_budget():
                replies = self._client.call_many(calls)
        except CoordinationError as error:
            replies = [error] * len(calls)
        return [self._heard(reply) for reply in replies]

    def _heard(self, reply: Any) -> History | None:
        if isinstance(reply, CoordinationError):
            self._events.labels("invalidation_lost").inc()
            _log.warning("cache.invalidation_lost", kind=reply.kind)
            return None
        self._events.labels("invalidation").inc()
        return self._named(reply[1])

    def _named(self, history: bytes) -> History:
        return _CLUSTER if self._clustered else History(history.decode())

    def _gated(self, wanted: _Wanted) -> bytes:
        if self.gate.redis_lost or self._client.is_cut_off:
            self._events.labels("gated_memory").inc()
            return self._remembered(wanted)
        self._events.labels("gated_database").inc()
        return wanted.load()

    def _remembered(self, wanted: _Wanted) -> bytes:
        namespace, key, tags, load, _ = wanted
        return self._fallback.fetch(namespace, key, tags=tags, load=load)

    def _read(self, wanted: _Wanted) -> Any:
        return self._client.call(self._calls.read(wanted.namespace, wanted.key))

    def _hit(self, wanted: _Wanted, reply: Sequence[Any]) -> bytes:
        _, sequence, epoch, stored, tags, left_ms = reply
        try:
            value = unpacked(stored)
        except ValueError:  # too large, or another release's: what it means is not known here
            self._events.labels("too_large" if stored == TOO_LARGE else "unreadable").inc()
            return self._loaded(wanted, sequence, epoch)
        self._events.labels("hit_l2").inc()
        names = tags.decode().split("\n")
        self._hold(wanted, value, Loaded(sequence, names, left_ms, len(value), epoch))
        return value

    def _missed(self, wanted: _Wanted, reply: Sequence[Any]) -> bytes:
        _, sequence, epoch, leads = reply
        flight, first = self._flights.board(_place(wanted, sequence, epoch))
        if leads and self._flights.claim(flight):
            return self._lead(wanted, flight, sequence, epoch)
        if first:
            self._events.labels("wait").inc()
            return self._flights.fly(flight, lambda: self._waited(wanted, flight))
        return self._followed(wanted, flight)

    def _lead(self, wanted: _Wanted, flight: Flight, sequence: int, epoch: bytes) -> bytes:
        """Load with the fill lease, and store for everybody."""
        self._events.labels("miss").inc()
        try:
            value = self._flights.fly(flight, wanted.load)
        except BaseException:
            self._events.labels("load_failed").inc()
            self._abandon(wanted)
            raise
        if self._keep(wanted, value, sequence, epoch):
            loaded = Loaded(sequence, wanted.tags, wanted.ttl_ms, len(value), epoch)
            self._hold(wanted, value, loaded)
        return value

    def _waited(self, wanted: _Wanted, flight: Flight) -> bytes:
        """Look again until the other's load is stored, for all threads that wait for it here."""
        until, pause_s = time.monotonic() + _WAIT_ALL_S, _WAIT_FIRST_S
        while time.monotonic() < until and not flight.ended.wait(pause_s):
            try:
                reply = self._read(wanted)
            except CoordinationError:
                self._events.labels("fallback").inc()
                break
            if reply[0]:
                return self._hit(wanted, reply)
            if reply[3] and self._flights.claim(flight):
                return self._lead(wanted, flight, reply[1], reply[2])
            pause_s = min(2 * pause_s, _WAIT_MOST_S)
        if self._flights.claim(flight):
            self._events.labels("miss").inc()
            return wanted.load()
        return self._followed(wanted, flight)

    def _loaded(self, wanted: _Wanted, sequence: int, epoch: bytes) -> bytes:
        """Load what cannot be read of Redis: at once, and once for those of this process."""
        flight, _ = self._flights.board(_place(wanted, sequence, epoch))
        if self._flights.claim(flight):
            return self._flights.fly(flight, wanted.load)
        return self._followed(wanted, flight)

    def _followed(self, wanted: _Wanted, flight: Flight) -> bytes:
        self._events.labels("shared").inc()
        value = flight.outcome()
        return wanted.load() if value is None else value

    def _hold(self, wanted: _Wanted, value: bytes, loaded: Loaded) -> None:
        visit = current_visit()
        if visit:
            visit.put(wanted.namespace, wanted.key, value, loaded)

    def _keep(self, wanted: _Wanted, value: bytes, sequence: int, epoch: bytes) -> bool:
        """Store the value for everybody; whether this process may hold it too."""
        namespace, key, tags, _, ttl_ms = wanted
        stored = packed(value)
        call = self._calls.store(
            namespace, key, stored, sequence=sequence, epoch=epoch, tags=tags, ttl_ms=ttl_ms
        )
        try:
            event = _STORED[self._client.call(call)]
        except CoordinationError:
            event = "store_lost"
        if event == "stored" and stored == TOO_LARGE:
            event = "too_large"
        self._events.labels(event).inc()
        return event == "stored"

    def _abandon(self, wanted: _Wanted) -> None:
        """Let others load at once; and who asks for what is not there leaves no keys."""
        with contextlib.suppress(CoordinationError):
            self._client.call(self._calls.abandon(wanted.namespace, wanted.key))


def _place(wanted: _Wanted, sequence: int, epoch: bytes) -> tuple[str, str, int, bytes]:
    """By which threads know that they may share what one of them loads."""
    return wanted.namespace, wanted.key, sequence, epoch


def _in_all(histories: Iterable[History | None]) -> History | None:
    """The one history that answered everywhere."""
    found = set(histories) or {NO_HISTORY}
    return found.pop() if len(found) == 1 else None
