"""Redis by purpose: which server, which time-out, and what its health is."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.config import Settings, shown_url
from app.coordination import failures, keys
from app.coordination.absent import NoRedis, Scripting
from app.coordination.client import ScriptClient, from_url
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.coordination.topology import Address, Cluster, Sentinels, Topology
from app.errors import ConfigError, CoordinationError
from app.metrics import Metrics

_PROBE_TTL_MS = 10


@dataclass(frozen=True, slots=True)
class Purposes:
    """One client for each purpose, so that a slow cache cannot use up the limiter's connections.

    `lock` serves scheduled runs' claims, and locks too where there are no `lock_servers`, which are
    independent of it and of each other.
    """

    limiter: Scripting
    cache: Scripting
    lock: Scripting
    lock_servers: tuple[Scripting, ...] = ()

    def __iter__(self) -> Iterator[Scripting]:
        return iter((self.limiter, self.cache, self.lock, *self.lock_servers))

    def close(self) -> None:
        for client in self:
            client.close()


def build(settings: Settings, metrics: Metrics) -> Purposes:
    """The clients that `settings` ask for; nothing connects before the first call.

    Raises:
        ConfigError: a URL has an option that is none.
    """

    def client(
        purpose: str, timeout_ms: int, where: tuple[Topology, dict[str, Any]]
    ) -> ScriptClient:
        topology, options = where
        return ScriptClient(
            purpose=purpose,
            topology=topology,
            options=options,
            timeout_s=timeout_ms / 1000,
            metrics=metrics,
            max_connections=settings.redis_max_connections,
        )

    lock_servers = tuple(
        client(f"lock-{number}", settings.lock_timeout_ms, where)
        for number, where in enumerate(lock_servers_of(settings), start=1)
    )
    if not settings.has_redis:
        none = NoRedis("limiter"), NoRedis("cache"), NoRedis("lock")
        return Purposes(*none, lock_servers)
    shared = coordination(settings)
    return Purposes(
        limiter=client("limiter", settings.limiter_timeout_ms, shared),
        cache=client("cache", settings.cache_timeout_ms, cache_server_of(settings)),
        lock=client("lock", settings.lock_timeout_ms, shared),
        lock_servers=lock_servers,
    )


def lock_servers_of(settings: Settings) -> list[tuple[Topology, dict[str, Any]]]:
    """The independent servers of `LOCK_REDIS_URLS`, each with its connection options."""
    return [_at("LOCK_REDIS_URLS", url) for url in settings.lock_urls]


def cache_server_of(settings: Settings) -> tuple[Topology, dict[str, Any]]:
    """Where values are cached, with its connection options."""
    url = settings.cache_redis_url
    return _at("CACHE_REDIS_URL", url) if url else coordination(settings)


def coordination(settings: Settings) -> tuple[Topology, dict[str, Any]]:
    """The coordination Redis: its topology, and the connection options of its nodes."""
    if settings.redis_mode == "standalone":
        return _at("REDIS_URL", settings.coordination_url or "")
    nodes = [_address(node) for node in (settings.redis_nodes or "").split(",")]
    options: dict[str, Any] = {
        "username": settings.redis_username,
        "password": settings.redis_password,
        "ssl": settings.redis_tls,
    }
    options = {name: value for name, value in options.items() if value}
    if settings.redis_mode == "cluster":
        return Cluster(nodes, options), options
    return Sentinels(nodes, settings.redis_sentinel_service, {}), options


def health(purposes: Purposes, scripts: ScriptRegistry) -> list[Mapping[str, str]]:
    """For each purpose its name, `pass` or `warn`, and what its loss means.

    The probe is a script that writes: PING answers under CLUSTERDOWN and NOREPLICAS, and a script
    that only reads on a full or demoted server.
    """
    args: list[Arg] = [secrets.token_hex(8), _PROBE_TTL_MS, "probe", _PROBE_TTL_MS, 0]
    probe = Call(scripts["lock_acquire.v2"], keys.lock("probe"), args)
    shared = [_health_of(c, probe) for c in (purposes.limiter, purposes.cache, purposes.lock)]
    return [*shared, *_health_of_majority(purposes.lock_servers, probe)]


def _health_of_majority(servers: tuple[Scripting, ...], probe: Call) -> list[Mapping[str, str]]:
    if not servers:
        return []
    with ThreadPoolExecutor(len(servers)) as pool:
        answers = sum(pool.map(lambda server: _answers(server, probe), servers))
    lost = len(servers) - answers
    detail = f"{answers} of {len(servers)} servers answer"
    if answers <= lost:
        detail += ": no majority, so that no lock can be taken"
    return [{"name": "redis:locks", "status": "warn" if lost else "pass", "detail": detail}]


def _answers(client: Scripting, probe: Call) -> bool:
    try:
        client.call(probe)
    except CoordinationError:
        return False
    return True


def _health_of(client: Scripting, probe: Call) -> Mapping[str, str]:
    name = f"redis:{client.purpose}"
    try:
        client.call(probe)
    except CoordinationError as error:
        detail = f"{error.kind}: {failures.ON_LOSS[client.purpose]}"
        return {"name": name, "status": "warn", "detail": detail}
    return {"name": name, "status": "pass", "detail": "answers"}


def _at(variable: str, url: str) -> tuple[Topology, dict[str, Any]]:
    try:
        return from_url(url)
    except ValueError as error:
        shown = repr(shown_url(url))
        raise ConfigError(variable, f"{shown} ({error})", "options that redis-py knows") from error


def _address(node: str) -> Address:
    host, _, port = node.strip().rpartition(":")
    return Address(host, int(port))
