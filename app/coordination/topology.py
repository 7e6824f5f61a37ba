"""Where the keys live: one server, whatever the sentinels call master, or a cluster's nodes.

A topology answers two questions: which address holds a key, and which nodes there are. Finding the
answer anew (after a failover or a moved slot) happens on a thread of its own, one at a time, so
that no request waits for it. Replicas are never read: they may lag behind an invalidation.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.coordination import deadline, failures

_DISCOVERY_TIMEOUT_S = 0.25


class Address(NamedTuple):
    """Host and port of a server; port 0 means that `host` is the path of a unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host


@dataclass(frozen=True, slots=True)
class Node:
    """`role` is `primary` or `replica`."""

    address: Address
    role: str


class Topology(Protocol):
    def address_of(self, key: str) -> Address:
        """The primary that holds `key`. Inside a request it never asks the network.

        Raises:
            ConnectionError (redis-py's): it is not known yet; a look-up is under way.
        """

    def find(self) -> None:
        """Ask the network now; raises what redis-py raises."""

    def nodes(self) -> list[Node]:
        """Every node, primaries first; always asks the network."""

    def moved(self, error: MovedError) -> None:
        """A server said that a slot lives elsewhere now."""

    def refresh_soon(self) -> None:
        """Something failed in a way that a failover explains: look again, in the background."""


class Standalone:
    """One server, by name: nothing to discover."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def address_of(self, key: str) -> Address:  # noqa: ARG002  the protocol's parameter
        return self._address

    def find(self) -> None:
        """There is nothing to look up."""

    def nodes(self) -> list[Node]:
        return [Node(self._address, "primary")]

    def moved(self, error: MovedError) -> None:
        """Only a cluster moves slots; the caller sees the error and its kind."""

    def refresh_soon(self) -> None:
        """There is nothing to look up."""


class _Discovering:
    """The part that sentinels and cluster share: one background look-up at a time."""

    def __init__(self) -> None:
        self._looking = threading.Lock()

    def refresh_soon(self) -> None:
        if self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, name="redis-topology", daemon=True).start()

    def find(self) -> None:
        raise NotImplementedError

    def _know(self) -> None:
        """The first look-up: outside requests it is made here, inside in the background."""
        if deadline.current_budget() is None:
            self.find()
            return
        self.refresh_soon()
        raise RedisConnectionError("where the keys live is not known yet")

    def _look(self) -> None:
        try:
            # Nobody answered: the next failure asks again.
            with contextlib.suppress(*failures.ERRORS):
                self.find()
        finally:
            self._looking.release()


class Sentinels(_Discovering):
    """The master that a group of sentinels agrees on.

    Args:
        sentinels: their addresses.
        service: the name they watch it under.
        options: redis-py's connection options for the sentinels.
    """

    def __init__(self, sentinels: list[Address], service: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        quick = {**_quick(), **options}
        self._sentinel = Sentinel([(a.host, a.port) for a in sentinels], sentinel_kwargs=quick)
        self._service = service
        self._master: Address | None = None

    def address_of(self, key: str) -> Address:  # noqa: ARG002  one master holds every key
        if self._master is None:
            self._know()
        return self._found()

    def nodes(self) -> list[Node]:
        self.find()
        replicas = self._sentinel.discover_slaves(self._service)
        return [
            Node(self._found(), "primary"),
            *(Node(Address(str(host), int(port)), "replica") for host, port in replicas),
        ]

    def moved(self, error: MovedError) -> None:
        """Only a cluster moves slots; the caller sees the error and its kind."""

    def find(self) -> None:
        host, port = self._sentinel.discover_master(self._service)
        self._master = Address(str(host), int(port))

    def _found(self) -> Address:
        if self._master is None:
            raise RedisConnectionError("the sentinels name no master")
        return self._master


class Cluster(_Discovering):
    """A Redis or Valkey cluster; redis-py keeps the map of slots, the sending is ours."""

    def __init__(self, seeds: list[Address], options: Mapping[str, Any]) -> None:
        super().__init__()
        self._seeds, self._options = seeds, options
        self._finding = threading.Lock()
        self._cluster: RedisCluster | None = None

    def address_of(self, key: str) -> Address:
        if self._cluster is None:
            self._know()
        node = self._map().get_node_from_key(key)
        return Address(str(node.host), int(node.port))

    def nodes(self) -> list[Node]:
        self.find()
        found = [
            Node(Address(str(n.host), int(n.port)), str(n.server_type))
            for n in self._map().get_nodes()
        ]
        return sorted(found, key=lambda node: (node.role != "primary", node.address))

    def moved(self, error: MovedError) -> None:
        self._map().nodes_manager.move_slot(error)

    def find(self) -> None:
        with self._finding:
            if self._cluster is not None:
                self._cluster.nodes_manager.initialize()
                return
            nodes = [ClusterNode(a.host, a.port) for a in self._seeds]
            options = {**_quick(), **self._options}
            self._cluster = RedisCluster(startup_nodes=nodes, **options)

    def _map(self) -> RedisCluster:
        if self._cluster is None:
            raise RedisConnectionError("no node of the cluster has answered")
        return self._cluster


def _quick() -> dict[str, Any]:
    return {
        "socket_timeout": _DISCOVERY_TIMEOUT_S,
        "socket_connect_timeout": _DISCOVERY_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
