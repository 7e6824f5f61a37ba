"""The proxy makes exactly the trouble that it was asked for."""

from __future__ import annotations

import time

import pytest
import redis

from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


def through(proxy: Proxy, *, timeout_s: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, socket_timeout=timeout_s, retry=None)


def test_it_forwards_both_ways(valkey: Valkey, valkey_proxy: Proxy) -> None:
    with through(valkey_proxy) as client, valkey.client() as direct:
        client.set("key", "v" * 200_000)
        assert direct.strlen("key") == 200_000
        assert len(client.get("key") or b"") == 200_000


def test_a_late_reply_means_that_the_command_has_run(valkey: Valkey, valkey_proxy: Proxy) -> None:
    with through(valkey_proxy, timeout_s=0.2) as client, valkey.client() as direct:
        client.ping()
        valkey_proxy.delay_ms = 60_000
        with pytest.raises(redis.TimeoutError):
            client.incr("counter")
        assert direct.get("counter") == "1"


def test_a_cut_refuses_and_a_restore_serves_on_the_same_port(valkey_proxy: Proxy) -> None:
    with through(valkey_proxy) as client:
        client.ping()
        valkey_proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        valkey_proxy.restore()
        assert client.ping()


def test_a_dropped_reply_is_lost_once_and_its_command_has_run(
    valkey: Valkey, valkey_proxy: Proxy
) -> None:
    with through(valkey_proxy) as client, valkey.client() as direct:
        valkey_proxy.drop_reply_once(after=b"INCR")
        client.ping()
        with pytest.raises(redis.ConnectionError):
            client.incr("counter")
        assert direct.get("counter") == "1"
        assert client.incr("counter") == 2
        assert valkey_proxy.dropped_replies == 1


def test_a_dripping_reply_arrives_whole_and_slowly(valkey: Valkey, valkey_proxy: Proxy) -> None:
    with through(valkey_proxy) as client, valkey.client() as direct:
        direct.set("key", "x" * 20)
        client.ping()
        valkey_proxy.drip_ms = 10
        began = time.monotonic()
        assert client.get("key") == b"x" * 20
        assert time.monotonic() - began >= 0.2


def test_a_dead_server_behind_it_closes_the_connection(valkey: Valkey, valkey_proxy: Proxy) -> None:
    with through(valkey_proxy) as client:
        client.ping()
        valkey.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        valkey.restart()
        assert eventually(client.ping, what="PING through the proxy")
