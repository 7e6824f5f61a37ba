"""Every script test runs on every server: in process, standalone old and new, and a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.cluster import RedisCluster

from app.coordination.client import ScriptClient, from_url
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.coordination.topology import Address, Cluster
from app.metrics import Metrics
from tests.support.need import skip_or_fail
from tests.support.redis_servers import Redis70, Redis82, Valkey, ValkeyCluster

STANDALONE: dict[str, type[Valkey] | type[Redis82] | type[Redis70]] = {
    "valkey-9.1": Valkey,
    "redis-8.2": Redis82,
}
if Redis70.binary() is not None:  # no package ships it: tried where it is on PATH
    STANDALONE["redis-7.0"] = Redis70


class ScriptServer:
    """One server of the suite: scripts by id, and plain commands to look behind them."""

    def __init__(self, client: ScriptClient, raw: Any, scripts: ScriptRegistry) -> None:
        self._client, self._raw, self._scripts = client, raw, scripts

    def run(self, script_id: str, keys: list[str], *args: Arg) -> Any:
        return self._client.call(Call(self._scripts[script_id], keys, args))

    def do(self, *command: Arg) -> Any:
        """A plain command, sent to whoever holds its first key."""
        return self._raw.execute_command(*command)

    def now_us(self) -> int:
        """The clock that the scripts see, microseconds."""
        seconds, microseconds = self._raw.time(**self._anywhere())
        return int(seconds) * 1_000_000 + int(microseconds)

    def forget_scripts(self) -> None:
        self._raw.script_flush()

    def empty(self) -> None:
        self._raw.flushall()

    def close(self) -> None:
        self._client.close()
        self._raw.close()

    def _anywhere(self) -> dict[str, Any]:
        """A cluster is asked one node's time; the others' are the same machine's."""
        if isinstance(self._raw, RedisCluster):
            return {"target_nodes": self._raw.get_default_node()}
        return {}


class FakeServer(ScriptServer):
    """fakeredis runs the scripts in this process: Lua's own limits, without a server's."""

    def __init__(self, scripts: ScriptRegistry) -> None:
        self._raw = fakeredis.FakeRedis()
        self._scripts = scripts

    def run(self, script_id: str, keys: list[str], *args: Arg) -> Any:
        call = Call(self._scripts[script_id], keys, args)
        self._raw.script_load(call.script.source)
        return self._raw.execute_command(*call.command())

    def close(self) -> None:
        self._raw.close()


@pytest.fixture(scope="session")
def scripts() -> ScriptRegistry:
    return ScriptRegistry.from_folder()


@pytest.fixture(scope="session", params=["fakeredis", *STANDALONE, "valkey-cluster"])
def running_server(
    request: pytest.FixtureRequest,
    scripts: ScriptRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ScriptServer]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp(request.param)
        server = _start(request.param, folder, scripts, stack)
        yield server
        server.close()


@pytest.fixture
def server(running_server: ScriptServer) -> ScriptServer:
    """A server of the contract suite, empty."""
    running_server.empty()
    return running_server


def _start(name: str, folder: Path, scripts: ScriptRegistry, stack: ExitStack) -> ScriptServer:
    if name == "fakeredis":
        return FakeServer(scripts)
    if name == "valkey-cluster":
        cluster = stack.enter_context(ValkeyCluster.start(folder))
        seeds = [Address(*_host_port(node)) for node in cluster.nodes.split(",")]
        raw = RedisCluster(host=seeds[0].host, port=seeds[0].port)
        return ScriptServer(_client(Cluster(seeds, {}), {}), raw, scripts)
    kind = STANDALONE[name]
    if kind.binary() is None:
        skip_or_fail(f"there is no {name}")
    url = stack.enter_context(kind.start(folder)).url
    return ScriptServer(_client(*from_url(url)), redis.Redis.from_url(url), scripts)


def _client(topology: Any, options: Any) -> ScriptClient:
    return ScriptClient(
        purpose="test", topology=topology, options=options, timeout_s=10, metrics=Metrics()
    )


def _host_port(node: str) -> tuple[str, int]:
    host, port = node.rsplit(":", 1)
    return host, int(port)
