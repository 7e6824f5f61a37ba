"""Cached values of one process alone: without a Redis, and in place of a lost one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from app.coordination.clocks import since_boot
from app.coordination.stale import Stale

Load = Callable[[], bytes]


class MemoryCache:
    """The fallback: this process's own, for at most `ttl_s` from the start of each load.

    A write of this process's own drops its namespace's entries, and a load that began before the
    write is not kept.
    """

    records = False

    def __init__(
        self,
        *,
        ttl_s: float = 5.0,
        most: int = 1_000,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._ttl_s, self._most, self._clock = ttl_s, most, clock
        self._entries: OrderedDict[tuple[str, str], tuple[float, int, bytes]] = OrderedDict()
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

    def invalidate(self, namespaces: Iterable[str]) -> None:
        """Drop whole namespaces: without Redis, simple beats fine."""
        with self._lock:
            for namespace in namespaces:
                self._sequence += 1
                if len(self._written) >= self._most:
                    # What is forgotten here still judges the loads that are under way.
                    self._floor = self._sequence
                    self._written.clear()
                self._written[namespace] = self._sequence

    def forget(self, changes: Sequence[Stale]) -> dict[Stale, str | None]:
        """Everything was heard, by nobody else."""
        self.invalidate(each for change in changes for each in change.namespaces)
        return dict.fromkeys(changes, "")

    def _written_at(self, namespace: str) -> int:
        return self._written.get(namespace, self._floor)
