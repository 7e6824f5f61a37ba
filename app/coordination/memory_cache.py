"""Cached values of one process alone: without a Redis, and in place of a lost one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from app.coordination.clocks import since_boot
from app.coordination.stale import NO_HISTORY, Heard, Stale
from app.coordination.values import Load, kept_bytes


class _Entry(NamedTuple):
    """`until`: by `since_boot`. `sequence`: of the writes that the load came after."""

    until: float
    sequence: int
    value: bytes


class MemoryCache:
    """The fallback: this process's own, for at most `ttl_s` from the start of each load.

    A write of this process's own drops its namespace's entries, and a load that began before the
    write is not kept. What has expired goes at the next load or write of anything.

    Args:
        most: entries.
        most_bytes: of all of them together.
    """

    records = False

    def __init__(
        self,
        *,
        ttl_s: float = 5.0,
        most: int = 1_000,
        most_bytes: int = 16 << 20,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._ttl_s, self._clock = ttl_s, clock
        self._most, self._most_bytes = most, most_bytes
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self.bytes = 0
        self._written: dict[str, int] = {}
        self._sequence = self._floor = 0
        self._lock = threading.Lock()

    def fetch(
        self,
        namespace: str,
        key: str,
        *,
        tags: Sequence[str],  # noqa: ARG002  the port's parameter
        load: Load,
        ttl_s: int | None = None,  # noqa: ARG002  never longer than this cache's own
    ) -> bytes:
        """The value, at most `ttl_s` of this cache old."""
        with self._lock:
            began, sequence = self._clock(), self._sequence
            found = self._entries.get((namespace, key))
            if found and began < found.until and found.sequence >= self._written_at(namespace):
                return found.value
        value = load()
        with self._lock:
            if sequence >= self._written_at(namespace):
                self._keep((namespace, key), _Entry(began + self._ttl_s, sequence, value))
            self._drop_expired()
        return value

    def drop(self, namespaces: Iterable[str]) -> None:
        """Drop whole namespaces: without Redis, simple beats fine."""
        with self._lock:
            self._drop_expired()
            for namespace in namespaces:
                self._sequence += 1
                if len(self._written) >= self._most:
                    # What is forgotten here still judges the loads that are under way.
                    self._floor = self._sequence
                    self._written.clear()
                self._written[namespace] = self._sequence

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        """Everything was heard, by nobody else."""
        self.drop(each for change in changes for each in change.namespaces)
        return dict.fromkeys(changes, NO_HISTORY)

    def _keep(self, place: tuple[str, str], entry: _Entry) -> None:
        size = kept_bytes(*place, entry.value)
        if size > self._most_bytes:
            return
        self._drop(place)
        self._entries[place] = entry
        self.bytes += size
        while len(self._entries) > self._most or self.bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop_expired(self) -> None:
        """From the first that was kept on: all live equally long, but for the time of a load."""
        now = self._clock()
        while self._entries:
            place, entry = next(iter(self._entries.items()))
            if now < entry.until:
                return
            self._drop(place)

    def _drop(self, place: tuple[str, str]) -> None:
        gone = self._entries.pop(place, None)
        if gone is not None:
            self.bytes -= kept_bytes(*place, gone.value)

    def _written_at(self, namespace: str) -> int:
        return self._written.get(namespace, self._floor)
