"""Independent Valkeys that keep locks by a majority, and processes' ways to them.

A `Site` stands for one process: clients, breakers, store and lock service of its own, put together
as `app.bootstrap` does it from `LOCK_REDIS_URLS`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, cast

import redis

from app.config import Settings
from app.coordination import keys, purposes
from app.coordination.absent import NoRedis
from app.coordination.client import ScriptClient
from app.coordination.lease import Lease
from app.coordination.lock import LockService
from app.coordination.lock_store import PrimaryStore
from app.coordination.redlock import Redlock
from app.coordination.scripts import ScriptRegistry
from app.errors import CoordinationError, LockBusy, LockLost
from app.metrics import Metrics
from tests.support.killed import Killed
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey

SCRIPTS = ScriptRegistry.from_folder()


def subsets(size: int) -> Iterator[tuple[int, int | None]]:
    """Every subset of so many things, as bits, and the one thing that is new in or out of it.

    In the order of F. Gray's code: it begins with the empty set, where nothing is new.
    """
    before = 0
    for number in range(2**size):
        bits = number ^ number >> 1
        yield bits, (bits ^ before).bit_length() - 1 if number else None
        before = bits


class Site(Killed):
    """One process that takes locks.

    Args:
        urls: its way to each of the servers, directly or through proxies.
        timeout_ms: what one call may take; patient, unless a test is about it.
        quorum: planted in place of the majority: the protection taken out.
    """

    def __init__(
        self, urls: Sequence[str], *, timeout_ms: int = 10_000, quorum: int | None = None
    ) -> None:
        env = {
            "REDIS_URL": urls[0],
            "LOCK_REDIS_URLS": ",".join(urls),
            "LOCK_TIMEOUT_MS": str(timeout_ms),
        }
        self.metrics = Metrics()
        self._redis = purposes.build(Settings.from_env(env), self.metrics)
        self.stores = [
            PrimaryStore(each, SCRIPTS, holder="site") for each in self._redis.lock_servers
        ]
        self.store = Redlock(self.stores)
        if quorum is not None:
            self.store._quorum = quorum
        self.locks = LockService(self.store, self.metrics)
        self.lease: Lease | None = None

    @property
    def clients(self) -> list[ScriptClient]:
        found = [each for each in self._redis.lock_servers if isinstance(each, ScriptClient)]
        assert len(found) == len(self._redis.lock_servers)
        return found

    def ask(self, name: str, *, ttl_ms: int = 60_000) -> str:
        """One try: `granted`, `busy` or `unknown`; what is granted is kept in `lease`."""
        try:
            self.lease = self.locks.acquire(name, ttl_ms=ttl_ms)
        except LockBusy:
            return "busy"
        except CoordinationError:
            return "unknown"
        assert self.lease.fence is None
        return "granted"

    def extend(self) -> str:
        """Renew what was granted: `extended`, `lost` or `unknown`."""
        assert self.lease
        try:
            self.locks.extend(self.lease)
        except LockLost:
            return "lost"
        except CoordinationError:
            return "unknown"
        return "extended"

    def free(self) -> str:
        """Give back what was granted: `freed`, `not ours`, `unknown`; `nothing` if nothing was."""
        lease, self.lease = self.lease, None
        if lease is None:
            return "nothing"
        try:
            return "freed" if self.locks.release(lease) else "not ours"
        except CoordinationError:
            return "unknown"

    def figure(self, name: str, **labels: str) -> float:
        """A metric of this process; 0 where it was never touched."""
        return self.metrics.registry.get_sample_value(f"taskflow_{name}", labels) or 0.0

    def kill(self) -> None:
        """End it: what it still owes in the background, nobody hears any more."""
        for store in self.stores:
            store._client = NoRedis("lock")
        self.store._pool.shutdown(wait=False)
        self._redis.close()


class Link(Proxy):
    """A proxy that can be parted from its server, and keeps its port meanwhile.

    What is asked then does not run, and its connection is closed.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self._server_port = target_port
        # Bound, so that nobody else gets it; and it refuses, because it never listens.
        self._nowhere = socket.socket()
        self._nowhere.bind(("127.0.0.1", 0))

    def part(self) -> None:
        self.retarget(self._nowhere.getsockname()[1])

    def join(self) -> None:
        self.retarget(self._server_port)

    def kill(self) -> None:
        super().kill()
        self._nowhere.close()


class Majority(Killed):
    """Several servers that share nothing."""

    def __init__(self, servers: Sequence[Valkey]) -> None:
        self.servers = servers
        self._raw: dict[int, redis.Redis] = {}

    @classmethod
    def start(cls, folder: Path, count: int) -> Self:
        servers: list[Valkey] = []
        try:
            servers.extend(Valkey.start(folder / f"server{number}") for number in range(count))
        except BaseException:
            cls(servers).kill()
            raise
        return cls(servers)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def running(self) -> list[Valkey]:
        return [server for server in self.servers if server.is_running]

    def reset(self) -> None:
        """All running, empty, and knowing the scripts."""
        for server in self.servers:
            server.reset()
            for script in SCRIPTS.values():
                self.raw(server).script_load(script.source)

    def raw(self, server: Valkey) -> redis.Redis:
        """A plain client of one running server; it is closed with the server."""
        if server.pid not in self._raw:
            self._raw[server.pid] = server.client()
        return self._raw[server.pid]

    def tokens(self, name: str) -> list[str | None]:
        """On each running server the token that holds `name`, None where it is free."""
        lease = keys.lock(name).lease
        return [cast("str | None", self.raw(each).hget(lease, "token")) for each in self.running]

    def held(self, name: str) -> int:
        """On how many of the running servers anybody holds `name`."""
        return sum(token is not None for token in self.tokens(name))

    def put(self, server: Valkey, name: str, token: str, *, ttl_ms: int = 60_000) -> None:
        """Let `token` hold `name` on one server."""
        lease = keys.lock(name).lease
        fields = ["token", token, "fence", "1", "holder", "other:1:a", "since", "1"]
        self.raw(server).hset(lease, items=fields)
        self.raw(server).pexpire(lease, ttl_ms)

    def drop(self, server: Valkey, name: str) -> None:
        """Let one server forget who holds `name`."""
        assert self.raw(server).delete(keys.lock(name).lease) == 1

    def forget_calls(self) -> None:
        for server in self.servers:
            self.raw(server).config_resetstat()

    def calls(self, command: str) -> list[int]:
        """How often each server ran a command since `forget_calls`."""
        told = [self.raw(server).info("commandstats") for server in self.servers]
        none = {"calls": 0}
        return [int(each.get(f"cmdstat_{command}", none)["calls"]) for each in told]

    def kill(self) -> None:
        for client in self._raw.values():
            client.close()
        for server in self.servers:
            server.kill()
