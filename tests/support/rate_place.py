"""Where rate limits are kept, one server or a cluster: clients for it, and what it saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import redis

from app.coordination import keys
from app.coordination.breaker import Breaker
from app.coordination.client import ScriptClient, from_url
from app.coordination.rate_limit import RedisRates
from app.coordination.scripts import ScriptRegistry
from app.coordination.topology import Address, Cluster
from app.metrics import Metrics
from tests.support.redis_servers import Valkey, ValkeyCluster

SCRIPTS = ScriptRegistry.from_folder()


class Rerouted(Cluster):
    """A cluster of which some nodes are reached by other ports than they say."""

    def __init__(self, seeds: list[Address], instead: Mapping[int, int]) -> None:
        super().__init__(seeds, {})
        self._instead = instead

    def address_of(self, key: str) -> Address:
        host, port = super().address_of(key)
        return Address(host, self._instead.get(port, port))


class Place:
    """One Valkey or a cluster of them."""

    def __init__(self, where: Valkey | ValkeyCluster, raws: list[redis.Redis]) -> None:
        self._where, self.raws = where, raws
        self._clients: list[ScriptClient] = []

    @classmethod
    @contextmanager
    def on(cls, where: Valkey | ValkeyCluster) -> Iterator[Self]:
        with ExitStack() as stack:
            servers = where.servers if isinstance(where, ValkeyCluster) else [where]
            place = cls(where, [stack.enter_context(server.client()) for server in servers])
            try:
                yield place
            finally:
                for client in place._clients:
                    client.close()

    def client(self, *, by: Mapping[str, int] | None = None) -> ScriptClient:
        """Patient, so that a busy machine is not taken for a lost Redis.

        `by`: keys, and by which port each one's node in a cluster is to be reached.
        """
        topology: Any
        if isinstance(self._where, ValkeyCluster):
            seeds = [Address("127.0.0.1", server.port) for server in self._where.servers]
            ports = {self._where.server_of(key).port: port for key, port in (by or {}).items()}
            topology, options = Rerouted(seeds, ports), dict[str, Any]()
        else:
            topology, options = from_url(self._where.url)
        client = ScriptClient(
            purpose="limiter",
            topology=topology,
            options=options,
            timeout_s=5,
            metrics=Metrics(),
            breaker=Breaker(failures=1_000),
        )
        self._clients.append(client)
        return client

    def rates(
        self,
        kind: type[RedisRates] = RedisRates,
        *,
        by: Mapping[str, int] | None = None,
        **options: Any,
    ) -> RedisRates:
        return kind(self.client(by=by), SCRIPTS, **options)

    def raw_of(self, key: str) -> redis.Redis:
        """The server that has `key`."""
        if isinstance(self._where, ValkeyCluster):
            return self.raws[self._where.servers.index(self._where.server_of(key))]
        return self.raws[0]

    def used(self, identity: str, name: str) -> int:
        """How many hits the log of a limit holds."""
        log = keys.rate(identity, name)
        client = self.raw_of(log)
        if not client.exists(log):
            return 0
        head = client.execute_command("GETRANGE", log, 0, 3, **{"NEVER_DECODE": True})
        return int.from_bytes(head, "big")

    def scripts_run(self) -> int:
        """EVALSHA so far, on all servers."""
        return sum(
            int(raw.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))
            for raw in self.raws
        )

    def exchanges(self, action: Callable[[], object]) -> int:
        """How often the servers found something to read because of `action`."""
        before = self._reads()
        action()
        return self._reads() - before - len(self.raws)  # each look is one too

    def _reads(self) -> int:
        return sum(int(raw.info("stats")["total_reads_processed"]) for raw in self.raws)
