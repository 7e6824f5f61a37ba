"""Lock services on a real server, and what the server saw of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import redis

from app.coordination import keys
from app.coordination.breaker import Breaker
from app.coordination.client import ScriptClient, from_url
from app.coordination.lock import LockService
from app.coordination.lock_store import PrimaryStore
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

SCRIPTS = ScriptRegistry.from_folder()
NAME = "sweep"
LONG_MS = 60_000


class LockBench:
    """One process's lock service, with its store, client and metrics.

    Arguments:
        store: the kind of store, such as one that stops at a certain point.
        timeout_s: patient, so that a busy machine is not taken for a lost Redis.
    """

    def __init__(
        self,
        url: str,
        *,
        store: type[PrimaryStore] = PrimaryStore,
        timeout_s: float = 5.0,
        max_connections: int = 64,
    ) -> None:
        self.metrics = Metrics()
        topology, options = from_url(url)
        self.client = ScriptClient(
            purpose="lock",
            topology=topology,
            options=options,
            timeout_s=timeout_s,
            metrics=self.metrics,
            max_connections=max_connections,
            breaker=Breaker(failures=1_000),
        )
        self.store = store(self.client, SCRIPTS, holder="test:1")
        self.locks = LockService(self.store, self.metrics)

    def sample(self, name: str) -> float:
        """The value of a lock's metric."""
        value = self.metrics.registry.get_sample_value(f"taskflow_lock_{name}")
        assert value is not None, f"there is no taskflow_lock_{name}"
        return value

    def outcomes(self) -> dict[str, float]:
        """Tries to lock, by how they ended."""
        samples = [each for family in self.metrics.locks.collect() for each in family.samples]
        counts = {s.labels["outcome"]: s.value for s in samples if s.name.endswith("_total")}
        return {outcome: count for outcome, count in counts.items() if count}

    def wait_for_the_background(self) -> None:
        """Until what the background thread does at this moment is done."""
        passed = threading.Event()

        def pass_by() -> None:
            passed.set()

        self.locks._ticker.add(0.0, pass_by)
        eventually(passed.is_set, what="the background thread")


class LockServer:
    """A Valkey with the scripts on it, and its own figures."""

    def __init__(self, valkey: Valkey, raw: redis.Redis) -> None:
        self.valkey, self.raw, self._benches = valkey, raw, list[LockBench]()
        for script in SCRIPTS.values():  # so that none is asked for twice, as an unknown one is
            raw.script_load(script.source)
        raw.config_resetstat()

    @classmethod
    @contextmanager
    def on(cls, valkey: Valkey) -> Iterator[Self]:
        """Ends with the connections of every bench."""
        with valkey.client() as raw:
            server = cls(valkey, raw)
            yield server
            for bench in server._benches:
                bench.client.close()

    def bench(self, url: str | None = None, **options: Any) -> LockBench:
        """A process of its own, as far as locks go; `url` may lead through a proxy."""
        self._benches.append(LockBench(url or self.valkey.url, **options))
        return self._benches[-1]

    def scripts_run(self) -> int:
        """How many calls of scripts have reached it."""
        stats: dict[str, Any] = self.raw.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])

    def wait_until_blocked(self, count: int) -> None:
        """Until just `count` callers are blocked on it."""
        eventually(
            lambda: self.raw.info("clients")["blocked_clients"] == count,
            what=f"{count} blocked callers",
        )

    def token(self) -> str | None:
        """Whose `NAME` is."""
        token: Any = self.raw.hget(keys.lock(NAME).lease, "token")
        return None if token is None else str(token)

    def left_ms(self) -> int:
        return int(self.raw.pttl(keys.lock(NAME).lease))
