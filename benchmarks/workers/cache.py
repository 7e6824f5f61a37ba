"""A process that uses the benchmark's cache; it says `ready`, and begins when it is told to.

`miss <url> <threads>`: each thread asks once for one key that nobody has. A line of JSON: how often
this process loaded it, and the seconds that each asker took.
`count <url> <seconds> <told>`: two threads read and raise a counter. The number itself is in plain
keys, which stand for the database; a write is acknowledged after the cache was told (`told` 1) or
without a word to it (0, the control). A line of JSON: what was read, and what of it was older than
the last write that had been acknowledged before the read began.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import redis

from app.coordination.stale import Stale
from benchmarks.cache_peers import Ours
from tests.support.caches import visiting

NAMESPACE, TAG = "shared", "counter"
_LOAD_S = 0.05
_SLOW_LOAD_S = 0.003
_THREADS = 2
_WRITES = 0.1  # of all that is done


def miss(url: str, threads: str) -> None:
    cache = Ours.at(url, max_connections=int(threads)).cache
    loads: list[int] = []
    seconds: list[float] = []
    together = threading.Barrier(int(threads))

    def load() -> bytes:
        loads.append(os.getpid())
        time.sleep(_LOAD_S)
        return b"loaded"

    def ask() -> None:
        together.wait()
        began = time.perf_counter()
        assert cache.fetch(NAMESPACE, "stampede", tags=[TAG], load=load) == b"loaded"
        seconds.append(time.perf_counter() - began)

    _begin()
    _on_threads([ask] * int(threads))
    print(json.dumps({"loads": len(loads), "seconds": seconds}))


def count(url: str, seconds: str, told: str) -> None:
    players = [_Player(url, told=told == "1") for _ in range(_THREADS)]
    ours = Ours.at(url)
    _begin()
    until = time.monotonic() + float(seconds)
    _on_threads([partial(each.play, ours, until) for each in players])
    read = [taken for each in players for taken in each.seconds]
    stale, writes = sum(each.stale for each in players), sum(each.writes for each in players)
    print(json.dumps({"stale": stale, "writes": writes, "seconds": read}))


class _Player:
    """One thread that reads and raises the counter."""

    def __init__(self, url: str, *, told: bool) -> None:
        self._raw = redis.Redis.from_url(url)
        self._told = told
        self._own = f"acknowledged:{os.getpid()}:{id(self)}"
        self._raw.sadd("players", self._own)
        self.stale = self.writes = 0
        self.seconds: list[float] = []

    def play(self, ours: Ours, until: float) -> None:
        while time.monotonic() < until:
            if random.random() < _WRITES:
                self._write(ours)
            else:
                self._read(ours)

    def _write(self, ours: Ours) -> None:
        number = int(self._raw.incr("counter"))
        if self._told:
            change = Stale((NAMESPACE,), (TAG,))
            assert ours.cache.invalidate([change])[change] is not None
        self._raw.set(self._own, number)
        self.writes += 1

    def _read(self, ours: Ours) -> None:
        acknowledged = self._raw.mget(self._raw.smembers("players"))
        least = max((int(each) for each in acknowledged if each), default=0)
        began = time.perf_counter()
        found = self._with_l1(ours) if random.random() < 0.5 else self._fetched(ours)
        self.seconds.append(time.perf_counter() - began)
        self.stale += found < least

    def _with_l1(self, ours: Ours) -> int:
        visit = ours.cache.local.visit([NAMESPACE])
        ours.cache.ask(visit)
        with visiting(visit):
            return self._fetched(ours)

    def _fetched(self, ours: Ours) -> int:
        return int(ours.cache.fetch(NAMESPACE, "counter", tags=[TAG], load=self._load))

    def _load(self) -> bytes:
        found = int(self._raw.get("counter") or 0)
        time.sleep(random.random() * _SLOW_LOAD_S)  # others write meanwhile
        return b"%d" % found


def _begin() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _on_threads(works: Sequence[Callable[[], None]]) -> None:
    started = [threading.Thread(target=work) for work in works]
    for each in started:
        each.start()
    for each in started:
        each.join()


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    (miss if what == "miss" else count)(*arguments)
