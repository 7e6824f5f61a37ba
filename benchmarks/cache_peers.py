"""Our cache and other packages' on the same server, in the shapes that the benchmark compares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import redis
from cashews import Cache as Cashews
from flask import Flask
from flask_caching import Cache as FlaskCaching

from app.coordination.cache import RedisCache
from app.coordination.client import ScriptClient, from_url
from app.metrics import Metrics
from tests.support.caches import shared_cache

LIVES_S = 600
_PIPELINE = 1_000


class Ours(NamedTuple):
    """One process's way to the shared cache. `max_connections` as many as its threads."""

    client: ScriptClient
    cache: RedisCache

    @classmethod
    def at(cls, url: str, *, max_connections: int = 64) -> Ours:
        topology, options = from_url(url)
        metrics = Metrics()
        client = ScriptClient(
            purpose="cache",
            topology=topology,
            options=options,
            timeout_s=10,
            metrics=metrics,
            max_connections=max_connections,
        )
        return cls(client, shared_cache(client, metrics))


def flask_caching_get(url: str, body: bytes) -> Callable[[], bytes]:
    """`cache.get` of Flask-Caching's Redis backend, which pickles what it keeps."""
    app = Flask("bench")
    cache = FlaskCaching(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url})
    app.app_context().push()
    cache.set("body", body, timeout=LIVES_S)

    def get() -> bytes:
        found: bytes = cache.get("body")
        return found

    return get


class CashewsTag:
    """One tag of cashews, as its decorator keeps it: registered, and named by each entry."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()
        self._cache = Cashews()
        self._cache.setup(url)
        self._cache.register_tag("bench", "entry:{number}")

    def fill(self, entries: int) -> None:
        """Store that many entries with the tag: one by its own `set`, copies of it in pipelines."""
        self._runner.run(self._cache.set("entry:0", b"value", expire=LIVES_S, tags=["bench"]))
        with redis.Redis.from_url(self._url) as raw:
            stored = raw.get("entry:0")
            assert stored is not None
            for at in range(1, entries, _PIPELINE):
                names = [f"entry:{number}" for number in range(at, min(at + _PIPELINE, entries))]
                pipeline = raw.pipeline(transaction=False)
                for name in names:
                    pipeline.set(name, stored, ex=LIVES_S)
                pipeline.sadd("_tag:bench", *names)
                pipeline.execute()
            assert raw.scard("_tag:bench") == entries

    def invalidate(self) -> None:
        """Delete all of them."""
        self._runner.run(self._cache.delete_tags("bench"))

    def holds(self, number: int) -> bool:
        return self._runner.run(self._cache.get(f"entry:{number}")) is not None

    def close(self) -> None:
        self._runner.run(self._cache.close())
        self._runner.close()
