"""One process with many threads that all miss one key: `stampede_worker URL THREADS OF_ALL HOW`.

Says `ready`, waits for a line, and has every thread read the key at once. Prints one JSON object:
what they read, and how often the cache saw what. The load counts itself at the server and lasts
until `OF_ALL` callers are there, at most a second. HOW is `coherent`; `stuck`, whose load says so
and never ends; or `unled`, the control, where everybody who misses loads.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from app.coordination.cache import RedisCache
from app.coordination.client import ScriptClient, from_url
from app.metrics import Metrics
from tests.support.caches import shared_cache
from tests.support.waiting import eventually

NAMESPACE, KEY = "project:1", "list"
ARRIVED, LOADS = "arrived", "loads"
EVENTS = ("miss", "hit_l2", "shared", "stored", "fallback")


class Stampede:
    """`threads` callers of one cache."""

    def __init__(self, url: str, threads: int, of_all: int, how: str) -> None:
        self.metrics, self.threads, self.of_all, self.how = Metrics(), threads, of_all, how
        self.raw = redis.Redis.from_url(url, max_connections=threads)
        topology, options = from_url(url)
        client = ScriptClient(
            purpose="cache",
            topology=topology,
            options=options,
            timeout_s=30,
            metrics=self.metrics,
            max_connections=threads,
        )
        self.cache = shared_cache(client, self.metrics)
        if how == "unled":
            unled(self.cache)
        self.barrier = threading.Barrier(threads, action=self._arrive)

    def _arrive(self) -> None:
        self.raw.incrby(ARRIVED, self.threads)

    def load(self) -> bytes:
        number = self.raw.incr(LOADS)
        if self.how == "stuck":
            print("loading", flush=True)
            threading.Event().wait()
        with contextlib.suppress(AssertionError):
            eventually(lambda: int(self.raw.get(ARRIVED) or 0) >= self.of_all, timeout_s=1)
        return b"load %d" % number

    def ask(self, _: int) -> str:
        self.barrier.wait()
        return self.cache.fetch(NAMESPACE, KEY, tags=["tasks"], load=self.load).decode()

    def run(self) -> dict[str, Any]:
        with ThreadPoolExecutor(self.threads) as pool:
            answers = Counter(pool.map(self.ask, range(self.threads)))
        events = {each: self.metrics.cache.labels(each)._value.get() for each in EVENTS}
        return {"answers": answers, "events": events}


def unled(cache: RedisCache) -> None:
    """Whoever misses is told to load."""
    read = cache._read
    cache._read = lambda wanted: _led(read(wanted))  # type: ignore[method-assign]


def _led(reply: Any) -> Any:
    return [*reply[:3], 1] if isinstance(reply, list) and not reply[0] else reply


def main(url: str, threads: int, of_all: int, how: str) -> None:
    stampede = Stampede(url, threads, of_all, how)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(stampede.run()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
