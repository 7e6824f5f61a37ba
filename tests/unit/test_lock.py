"""The lock service on a real server."""

from __future__ import annotations

import pytest

from app.coordination import keys
from app.coordination.absent import NoRedis
from app.coordination.client import ScriptClient, from_url
from app.coordination.lock import Lease, LockService
from app.coordination.scripts import ScriptRegistry
from app.errors import LockBusy, LockLost, RedisUnavailable
from app.metrics import Metrics
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

SCRIPTS = ScriptRegistry.from_folder()


def service(url: str, *, metrics: Metrics | None = None) -> LockService:
    metrics = metrics or Metrics()
    topology, options = from_url(url)
    client = ScriptClient(
        purpose="lock", topology=topology, options=options, timeout_s=0.25, metrics=metrics
    )
    return LockService(client, SCRIPTS, metrics, holder="test:1")


@pytest.fixture
def locks(valkey: Valkey) -> LockService:
    return service(valkey.url)


def test_a_taken_lock_is_refused_at_once_without_retries(locks: LockService) -> None:
    locks.acquire("sweep", ttl_ms=5_000)
    with pytest.raises(LockBusy, match="'sweep' is taken"):
        locks.acquire("sweep", ttl_ms=5_000)


def test_retries_outlast_a_holder_whose_lease_ends(locks: LockService) -> None:
    first = locks.acquire("sweep", ttl_ms=50)
    second = locks.acquire("sweep", ttl_ms=5_000, retries=50)
    assert first.fence is not None
    assert second.fence is not None
    assert second.fence > first.fence


def test_the_same_token_gets_the_same_fence(locks: LockService) -> None:
    first = locks.acquire("sweep", ttl_ms=5_000, token="mine")
    assert locks.acquire("sweep", ttl_ms=5_000, token="mine").fence == first.fence


def test_an_acquisition_whose_answer_was_lost_leaves_no_phantom(
    valkey: Valkey, valkey_proxy: Proxy
) -> None:
    locks = service(valkey_proxy.url)
    locks.release(locks.acquire("warm", ttl_ms=1_000))
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        locks.acquire("sweep", ttl_ms=60_000)
    with valkey.client() as raw:
        assert raw.exists(keys.lock("sweep").lease) == 0


def test_an_unanswered_renewal_by_the_same_token_does_not_give_the_lock_away(
    valkey: Valkey, valkey_proxy: Proxy
) -> None:
    locks = service(valkey_proxy.url)
    locks.acquire("sweep", ttl_ms=60_000, token="mine")
    valkey_proxy.drop_reply_once(after=b"EVALSHA")
    with pytest.raises(RedisUnavailable):
        locks.acquire("sweep", ttl_ms=60_000, token="mine")
    with valkey.client() as raw:
        assert raw.hget(keys.lock("sweep").lease, "token") == "mine"


def test_a_lease_knows_that_its_time_is_over(locks: LockService) -> None:
    lease = locks.acquire("sweep", ttl_ms=30)
    eventually(lambda: _is_over(lease), what="the lease's end")
    with pytest.raises(LockLost):
        locks.extend(lease)


def test_extending_gives_the_lease_its_whole_time_again(locks: LockService) -> None:
    lease = locks.acquire("sweep", ttl_ms=5_000)
    longer = locks.extend(lease)
    assert longer.fence == lease.fence
    assert longer.until >= lease.until


def test_hold_releases_at_the_end_of_the_block_and_after_an_error(locks: LockService) -> None:
    with locks.hold("sweep", ttl_ms=5_000, on_loss="closed") as lease:
        lease.ensure_held()
    with pytest.raises(ZeroDivisionError), locks.hold("sweep", ttl_ms=5_000, on_loss="closed"):
        _ = 1 // 0
    locks.acquire("sweep", ttl_ms=5_000)


def test_without_redis_the_callers_policy_decides() -> None:
    metrics = Metrics()
    locks = LockService(NoRedis("lock"), SCRIPTS, metrics, holder="test:1")
    with locks.hold("sweep", ttl_ms=5_000, on_loss="open") as lease:
        assert lease.fence is None
        lease.ensure_held()
    assert metrics.registry.get_sample_value("taskflow_lock_unprotected_total") == 1
    with (
        pytest.raises(RedisUnavailable),
        locks.hold("sweep", ttl_ms=5_000, on_loss="closed"),
    ):
        pytest.fail("the block must not run")


def test_a_lock_is_released_while_redis_is_out_of_memory(
    valkey: Valkey, locks: LockService
) -> None:
    lease = locks.acquire("sweep", ttl_ms=60_000)
    with valkey.client() as raw:
        raw.config_set("maxmemory", 1)
    assert locks.release(lease) is True


def _is_over(lease: Lease) -> bool:
    try:
        lease.ensure_held()
    except LockLost:
        return True
    return False
