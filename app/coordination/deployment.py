"""The scripts on the servers: load them on every node, and see which node has which.

Primaries and replicas alike: a replica that is promoted must not answer NOSCRIPT to the first of
everybody's calls at once. (If it does, each call reloads what it needs.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from app.config import Settings, shown_url
from app.coordination import purposes
from app.coordination.client import ScriptClient, from_url, load_command
from app.coordination.scripts import ScriptRegistry
from app.coordination.topology import Node, Topology
from app.errors import ConfigError, CoordinationError
from app.metrics import Metrics

_TIMEOUT_S = 5.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ScriptStatus:
    name: str
    version: int
    sha: str
    loaded: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """`node` is host:port or a socket's path; `role` is `primary` or `replica`."""

    node: str
    role: str
    scripts: tuple[ScriptStatus, ...]

    def as_dict(self) -> Mapping[str, Any]:
        return asdict(self)


def targets(settings: Settings, url: str | None = None) -> list[ScriptClient]:
    """Clients for operators: patient, and for `url` if given, else for all that is configured.

    Raises:
        ConfigError: no URL, and no Redis is configured.
    """
    if url is not None:
        return [_client(*_given(url))]
    if not settings.has_redis:
        raise ConfigError("REDIS_URL", "nothing", "the Redis to load the scripts into, or --url")
    places = [purposes.coordination(settings), *purposes.lock_servers_of(settings)]
    return [_client(*place) for place in places]


def lock_targets(settings: Settings) -> list[ScriptClient]:
    """Clients for where locks are kept: the independent servers, or the one Redis.

    Raises:
        ConfigError: no Redis is configured.
    """
    if not settings.has_redis:
        raise ConfigError("REDIS_URL", "nothing", "the Redis that keeps the locks")
    shared, *servers = targets(settings)
    return servers or [shared]


def cache_target(settings: Settings) -> ScriptClient:
    """A client for where values are cached.

    Raises:
        ConfigError: no Redis is configured.
    """
    if not settings.has_redis:
        raise ConfigError("REDIS_URL", "nothing", "the Redis that keeps what is cached")
    return _client(*purposes.cache_server_of(settings))


def load(clients: Sequence[ScriptClient], scripts: ScriptRegistry) -> list[NodeStatus]:
    """Load every script on every node, and return what the nodes hold then.

    Raises:
        CoordinationError: a node could not be reached or refused; earlier nodes are loaded.
    """
    for client in clients:
        for node in client.nodes():
            client.on_node(node, [load_command(script) for script in scripts.values()])
    return status(clients, scripts)


def status(clients: Sequence[ScriptClient], scripts: ScriptRegistry) -> list[NodeStatus]:
    """Which node has which script.

    Raises:
        CoordinationError: a node could not be asked.
    """
    return [_status_of(client, node, scripts) for client in clients for node in client.nodes()]


def load_at_start(settings: Settings, scripts: ScriptRegistry) -> None:
    """Load everything everywhere if that is possible now; calls reload what is missing anyway."""
    if not settings.has_redis:
        _log.warning("redis.absent", detail="limits, locks and cache are this process's own")
        return
    for client in targets(settings):
        try:
            for node in client.nodes():
                _load_on(client, node, scripts)
        except CoordinationError as error:
            _log.warning("scripts.not_loaded", kind=error.kind)
        finally:
            client.close()


def _given(url: str) -> tuple[Topology, dict[str, Any]]:
    try:
        return from_url(url)
    except ValueError as error:
        takes = "redis://, rediss:// or unix://"
        raise ConfigError("--url", repr(shown_url(url)), takes) from error


def _client(topology: Topology, options: dict[str, Any]) -> ScriptClient:
    return ScriptClient(
        purpose="operator",
        topology=topology,
        options=options,
        timeout_s=_TIMEOUT_S,
        metrics=Metrics(),
    )


def _load_on(client: ScriptClient, node: Node, scripts: ScriptRegistry) -> None:
    """One node that does not answer must not keep the scripts from the others."""
    try:
        client.on_node(node, [load_command(script) for script in scripts.values()])
        _log.info("scripts.loaded", node=str(node.address), scripts=len(scripts))
    except CoordinationError as error:
        _log.warning("scripts.not_loaded", node=str(node.address), kind=error.kind)


def _status_of(client: ScriptClient, node: Node, scripts: ScriptRegistry) -> NodeStatus:
    shas = [script.sha for script in scripts.values()]
    (present,) = client.on_node(node, [("SCRIPT", "EXISTS", *shas)])
    return NodeStatus(
        str(node.address),
        node.role,
        tuple(
            ScriptStatus(script.name, script.version, script.sha, bool(there))
            for script, there in zip(scripts.values(), present, strict=True)
        ),
    )
