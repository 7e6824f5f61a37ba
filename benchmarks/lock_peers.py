"""Our lock and redis-py's, in the one shape that the benchmark of locks compares."""

from __future__ import annotations

import os
from collections.abc import Callable

import redis

from app.coordination.client import ScriptClient, from_url
from app.coordination.lock import LockService
from app.coordination.lock_store import PrimaryStore
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics

NAME = "bench"
TTL_MS = 10_000

Take = Callable[[], Callable[[], object]]
"""Waits for the lock; the answer gives it back."""


def service(url: str) -> LockService:
    topology, options = from_url(url)
    metrics = Metrics()
    client = ScriptClient(
        purpose="lock", topology=topology, options=options, timeout_s=5, metrics=metrics
    )
    store = PrimaryStore(client, ScriptRegistry.from_folder(), holder=f"bench:{os.getpid()}")
    return LockService(store, metrics)


def ours(url: str, *, ttl_ms: int = TTL_MS) -> Take:
    locks = service(url)

    def take() -> Callable[[], object]:
        lease = locks.acquire(NAME, ttl_ms=ttl_ms, retries=None, wait_ms=60_000)
        return lambda: locks.release(lease)

    return take


def redis_py(url: str) -> Take:
    raw = redis.Redis.from_url(url)

    def take() -> Callable[[], object]:
        lock = raw.lock(NAME, timeout=TTL_MS / 1000)
        lock.acquire()
        return lock.release  # type: ignore[no-any-return]  # untyped there

    return take


PEERS: dict[str, Callable[[str], Take]] = {"ours": ours, "redis_py": redis_py}
