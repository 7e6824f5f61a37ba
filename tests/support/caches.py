"""Shared caches as `bootstrap` builds them, whose gate somebody else is said to keep open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from app.coordination.absent import Scripting
from app.coordination.cache import RedisCache
from app.coordination.cache_calls import meta_ttl_ms
from app.coordination.client import ScriptClient, from_url
from app.coordination.gate import Gate
from app.coordination.local_cache import LocalCache, Visit, begin_visit
from app.coordination.memory_cache import MemoryCache
from app.coordination.scripts import ScriptRegistry
from app.coordination.stale import Stale
from app.metrics import Metrics

SCRIPTS = ScriptRegistry.from_folder()
TTL_S = 30
HOME = "project:1"
TASKS = Stale((HOME,), ("tasks",))


def shared_cache(client: Scripting, metrics: Metrics, *, gate: Gate | None = None) -> RedisCache:
    """A process's cache over `client`."""
    return RedisCache(
        client,
        SCRIPTS,
        metrics,
        ttl_s=TTL_S,
        fallback=MemoryCache(),
        local=LocalCache(SCRIPTS["cache_sync.v2"], meta_ttl_ms=meta_ttl_ms(TTL_S)),
        gate=gate or open_gate(),
    )


def open_gate() -> Gate:
    """For which no time passes."""
    gate = Gate(clock=lambda: 0.0)
    gate.passed(0.0)
    return gate


class Process:
    """One process's cache, before a source that answers with `value`."""

    def __init__(self, url: str, *, gate: Gate | None = None) -> None:
        self.metrics, self.value = Metrics(), 0
        topology, options = from_url(url)
        self.client = ScriptClient(
            purpose="cache", topology=topology, options=options, timeout_s=5, metrics=self.metrics
        )
        self.cache = shared_cache(self.client, self.metrics, gate=gate)

    def load(self) -> bytes:
        return str(self.value).encode()

    def read(self, load: Callable[[], bytes] | None = None, *, key: str = "list") -> int:
        return int(self.cache.fetch(HOME, key, tags=["tasks"], load=load or self.load))

    def visit(self) -> Visit:
        """A request's sight of the namespace, asked for at once."""
        visit = self.cache.local.visit([HOME])
        self.cache.ask(visit)
        return visit

    def events(self, event: str) -> float:
        return float(self.metrics.cache.labels(event)._value.get())


@contextlib.contextmanager
def visiting(visit: Visit) -> Iterator[None]:
    """Let everything inside see by `visit`, as a request does."""
    begin_visit(visit)
    try:
        yield
    finally:
        begin_visit(None)
