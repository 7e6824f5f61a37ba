"""Shared caches as `bootstrap` builds them, whose gate somebody else is said to keep open."""

from __future__ import annotations

from app.coordination.absent import Scripting
from app.coordination.cache import META_TTL_MS, RedisCache
from app.coordination.gate import Gate
from app.coordination.local_cache import LocalCache
from app.coordination.memory_cache import MemoryCache
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics

SCRIPTS = ScriptRegistry.from_folder()


def shared_cache(client: Scripting, metrics: Metrics, *, gate: Gate | None = None) -> RedisCache:
    """A process's cache over `client`."""
    return RedisCache(
        client,
        SCRIPTS,
        metrics,
        ttl_s=30,
        fallback=MemoryCache(),
        local=LocalCache(SCRIPTS["cache_sync.v1"], meta_ttl_ms=META_TTL_MS),
        gate=gate or open_gate(),
    )


def open_gate() -> Gate:
    """For which no time passes."""
    gate = Gate(clock=lambda: 0.0)
    gate.passed(0.0)
    return gate
