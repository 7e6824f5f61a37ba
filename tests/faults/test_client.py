"""The script client against real servers on a bad network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from app.coordination import deadline, failures, keys
from app.coordination.breaker import Breaker, State
from app.coordination.client import ScriptClient, from_url
from app.coordination.scripts import Call, Script, ScriptRegistry
from app.coordination.topology import Address, Cluster
from app.errors import PoolExhausted, RedisRefused, RedisUnavailable
from app.metrics import Metrics
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey, ValkeyCluster
from tests.support.waiting import eventually

SCRIPTS = ScriptRegistry.from_folder()
COUNT = "tf:1:{test}:count"
SOURCE = "return redis.call('INCR', KEYS[1])"
COUNTER = Script("test_count", 1, SOURCE, hashlib.sha1(SOURCE.encode()).hexdigest(), 1)
LEASE = keys.lock("a").lease


def acquire(name: str, *, ttl_ms: int) -> Call:
    return Call(SCRIPTS["lock_acquire.v2"], keys.lock(name), ["t", ttl_ms, "h", ttl_ms, 0])


def release(token: str) -> Call:
    lock = keys.lock("a")
    script = SCRIPTS["lock_release.v2"]
    return Call(script, [lock.lease, lock.waiters, lock.wake], [token, 1_000])


def counting() -> Call:
    """A call whose every run leaves a trace: not idempotent on purpose."""
    return Call(COUNTER, [COUNT], [])


def harmless() -> Call:
    return release("nobody")


def client_of(url: str, **options: Any) -> ScriptClient:
    topology, connection = from_url(url)
    chosen: dict[str, Any] = {"timeout_s": 0.2, "metrics": Metrics(), **options}
    return ScriptClient(purpose="test", topology=topology, options=connection, **chosen)


def failures_of(client: ScriptClient, kind: str) -> float:
    value = client._metrics.registry.get_sample_value(
        "taskflow_redis_failures_total", {"purpose": "test", "kind": kind}
    )
    return value or 0.0


def state_of(client: ScriptClient) -> State:
    return client.breaker.state


@pytest.fixture
def raw(valkey: Valkey) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def test_a_forgotten_script_is_loaded_and_run_without_the_caller_noticing(
    valkey: Valkey, raw: redis.Redis
) -> None:
    client = client_of(valkey.url)
    assert client.call(counting()) == 1
    raw.script_flush()
    assert client.call(counting()) == 2


def test_a_forgotten_script_inside_a_pipeline_hides_no_neighbours_reply(
    valkey: Valkey, raw: redis.Redis
) -> None:
    client = client_of(valkey.url)
    raw.script_load(SCRIPTS["lock_release.v2"].source)
    assert client.call_many([harmless(), counting(), harmless(), counting()]) == [0, 1, 0, 2]


def test_where_loading_it_breaks_off_neighbours_keep_their_replies(
    valkey_proxy: Proxy, raw: redis.Redis
) -> None:
    client = client_of(valkey_proxy.url)
    raw.script_load(SCRIPTS["lock_release.v2"].source)
    valkey_proxy.drop_reply_once(after=b"SCRIPT")
    answered, unheard = client.call_many([harmless(), counting()])
    assert answered == 0
    assert (type(unheard), unheard.kind) == (RedisUnavailable, "connection")


def test_a_call_whose_second_sending_breaks_off_may_have_run(
    valkey_proxy: Proxy, raw: redis.Redis
) -> None:
    client = client_of(valkey_proxy.url)
    valkey_proxy.drop_reply_once(after=b"SCRIPT")
    with pytest.raises(RedisUnavailable) as unheard:
        client.call(counting())
    assert failures.may_have_run(unheard.value)
    assert raw.get(COUNT) == "1"


def test_a_call_whose_reply_was_lost_is_not_sent_again(
    valkey_proxy: Proxy, raw: redis.Redis
) -> None:
    client = client_of(valkey_proxy.url)
    client.call(counting())
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        client.call(counting())
    assert raw.get(COUNT) == "2"


def test_with_the_librarys_own_retries_the_same_call_would_have_counted_twice(
    valkey_proxy: Proxy, raw: redis.Redis
) -> None:
    """The control of the test above: redis-py as it comes."""
    stock = redis.Redis(port=valkey_proxy.port)
    stock.eval(COUNTER.source, 1, COUNT)
    valkey_proxy.drop_reply_once(after=b"EVAL")
    stock.eval(COUNTER.source, 1, COUNT)
    stock.close()
    assert raw.get(COUNT) == "3"


def test_a_dripping_server_is_cut_off_by_the_deadline_of_the_operation(
    valkey_proxy: Proxy,
) -> None:
    client = client_of(valkey_proxy.url)
    client.call(counting())
    valkey_proxy.drip_ms = 150  # every single read stays under the timeout of 200 ms
    with pytest.raises(RedisUnavailable) as lost:
        client.call(acquire("a", ttl_ms=9_000))
    assert lost.value.kind == "timeout"


def test_a_connection_whose_reply_came_too_late_never_serves_another_call(
    valkey_proxy: Proxy,
) -> None:
    client = client_of(valkey_proxy.url, timeout_s=0.05, breaker=Breaker(failures=99))
    client.call(counting())
    valkey_proxy.delay_ms = 100
    with pytest.raises(RedisUnavailable):
        client.call(counting())
    valkey_proxy.delay_ms = 0
    assert client.call(harmless()) == 0


def test_a_killed_server_opens_the_breaker_and_its_return_closes_it(valkey: Valkey) -> None:
    client = client_of(valkey.url, breaker=Breaker(failures=3, open_s=0.1))
    client.call(harmless())
    valkey.kill()
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            client.call(harmless())
    assert state_of(client) is State.OPEN
    with pytest.raises(RedisUnavailable) as refused:
        client.call(harmless())
    assert refused.value.kind == "breaker"
    valkey.restart()
    eventually(lambda: _answers(client), what="the breaker to close")
    assert state_of(client) is State.CLOSED


def test_a_stopped_server_costs_its_timeout_and_then_nothing(valkey: Valkey) -> None:
    client = client_of(valkey.url, timeout_s=0.05, breaker=Breaker(failures=3, open_s=60))
    client.call(harmless())
    valkey.freeze()
    for _ in range(50):
        with pytest.raises(RedisUnavailable):
            client.call(harmless())
    assert failures_of(client, "timeout") == 3
    assert failures_of(client, "breaker") == 47


def test_a_refusal_by_a_healthy_server_does_not_open_the_breaker(
    valkey: Valkey, raw: redis.Redis
) -> None:
    client = client_of(valkey.url, breaker=Breaker(failures=3))
    raw.set(LEASE, "not a hash")
    for _ in range(10):
        with pytest.raises(RedisRefused) as refused:
            client.call(harmless())
        assert refused.value.kind == "wrongtype"
    assert state_of(client) is State.CLOSED


def test_out_of_memory_refuses_what_writes_and_still_releases_locks(
    valkey: Valkey, raw: redis.Redis
) -> None:
    client = client_of(valkey.url)
    client.call(acquire("a", ttl_ms=60_000))
    raw.config_set("maxmemory", 1)
    with pytest.raises(RedisRefused) as refused:
        client.call(acquire("b", ttl_ms=9_000))
    assert refused.value.kind == "oom"
    assert client.call(release("t")) == 1
    assert state_of(client) is State.CLOSED


def test_a_read_only_server_refuses_and_does_not_open_the_breaker(
    valkey: Valkey, raw: redis.Redis
) -> None:
    client = client_of(valkey.url, breaker=Breaker(failures=2))
    raw.replicaof("127.0.0.1", "1")
    try:
        for _ in range(3):
            with pytest.raises(RedisRefused) as refused:
                client.call(counting())
            assert refused.value.kind == "readonly"
    finally:
        raw.replicaof("NO", "ONE")
    assert state_of(client) is State.CLOSED


def test_a_full_pool_is_our_own_load_and_does_not_open_the_breaker(valkey_proxy: Proxy) -> None:
    client = client_of(
        valkey_proxy.url, max_connections=2, breaker=Breaker(failures=2), timeout_s=2
    )
    valkey_proxy.delay_ms = 300
    together = threading.Barrier(8)

    def ask() -> str:
        together.wait()
        try:
            client.call(harmless())
        except PoolExhausted as full:
            return full.kind
        return "answered"

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert (answers.count("answered"), answers.count("pool")) == (2, 6)
    assert state_of(client) is State.CLOSED


def test_all_calls_of_a_request_share_its_budget(valkey: Valkey) -> None:
    client = client_of(valkey.url, timeout_s=0.2, breaker=Breaker(failures=99))
    client.call(harmless())
    valkey.freeze()
    deadline.start_budget(0.12)
    try:
        kinds = [_kind(client) for _ in range(20)]
    finally:
        deadline.end_budget()
    assert kinds == ["timeout"] + ["budget"] * 19


def test_a_moved_slot_is_followed_without_an_error(tmp_path: Path) -> None:
    with ValkeyCluster.start(tmp_path) as cluster:
        seeds = [Address(h, int(p)) for h, p in (n.split(":") for n in cluster.nodes.split(","))]
        client = ScriptClient(
            purpose="test", topology=Cluster(seeds, {}), options={}, timeout_s=2, metrics=Metrics()
        )
        call = counting()
        assert client.call(call) == 1
        _move_slot_of(cluster, call.keys[0])
        assert [client.call(call) for _ in range(3)] == [2, 3, 4]


def test_a_cluster_that_is_not_there_is_an_outage_like_any_other() -> None:
    nobody = [Address("127.0.0.1", free_port())]
    client = ScriptClient(
        purpose="test",
        topology=Cluster(nobody, {}),
        options={},
        timeout_s=0.2,
        metrics=Metrics(),
        breaker=Breaker(failures=3),
    )
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            client.call(harmless())
    assert state_of(client) is State.OPEN


def test_inside_a_request_nobody_waits_to_find_out_where_the_keys_live(tmp_path: Path) -> None:
    with ValkeyCluster.start(tmp_path) as cluster:
        seeds = [Address(h, int(p)) for h, p in (n.split(":") for n in cluster.nodes.split(","))]
        client = ScriptClient(
            purpose="test", topology=Cluster(seeds, {}), options={}, timeout_s=2, metrics=Metrics()
        )
        deadline.start_budget(0.12)
        try:
            assert _kind(client) == "connection"
            eventually(lambda: _kind(client) == "answered", what="the look-up in the background")
        finally:
            deadline.end_budget()


def test_a_demoted_servers_connections_are_given_up(valkey: Valkey, raw: redis.Redis) -> None:
    """Behind one name, a failover shows only to whoever connects anew."""
    client = client_of(valkey.url)
    client.call(counting())
    raw.config_resetstat()
    raw.replicaof("127.0.0.1", "1")
    try:
        for _ in range(3):
            with pytest.raises(RedisRefused):
                client.call(counting())
        assert int(raw.info("stats")["total_connections_received"]) >= 2
    finally:
        raw.replicaof("NO", "ONE")


def test_an_option_that_no_connection_has_stops_the_start() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        from_url("redis://localhost?max_connections=10")


def _answers(client: ScriptClient) -> bool:
    try:
        return bool(client.call(harmless()) == 0)
    except RedisUnavailable:
        return False


def _kind(client: ScriptClient) -> str:
    try:
        client.call(harmless())
    except RedisUnavailable as error:
        return error.kind
    return "answered"


def _move_slot_of(cluster: ValkeyCluster, key: str) -> None:
    """What an operator's resharding does, for one slot with one key."""
    source = cluster.server_of(key)
    target = next(server for server in cluster.servers if server is not source)
    with source.client() as here, target.client() as there:
        slot = here.execute_command("CLUSTER KEYSLOT", key)
        here_id, there_id = (c.execute_command("CLUSTER MYID") for c in (here, there))
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here_id)
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there_id)
        here.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        for client in (there, here):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)
