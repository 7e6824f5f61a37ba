"""Locks where something about them cannot be: a time, an end, a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.coordination import keys
from app.coordination.absent import NoRedis
from app.coordination.lock import LockService
from app.coordination.lock_inspection import LockInspection
from app.coordination.lock_store import PrimaryStore
from app.errors import InvalidInput
from app.metrics import Metrics
from tests.support.locks import LONG_MS, NAME, SCRIPTS, LockBench, LockServer
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@pytest.fixture
def bench(server: LockServer) -> LockBench:
    return server.bench()


@pytest.fixture
def nobody() -> LockBench:
    """A lock service whose Redis is not there."""
    return LockBench(f"redis://127.0.0.1:{free_port()}/0")


@pytest.mark.parametrize("ttl_ms", [1_500.0, True, "1500"])
def test_a_time_that_is_no_whole_number_is_refused(bench: LockBench, ttl_ms: Any) -> None:
    with pytest.raises(InvalidInput, match="whole ms"):
        bench.locks.acquire(NAME, ttl_ms=ttl_ms)


def test_a_lease_without_an_end_is_shown_as_held_and_can_be_released(server: LockServer) -> None:
    """As a release of before, or a hand, may have left one."""
    bench = server.bench()
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    with server.valkey.client() as raw:
        raw.persist(keys.lock(NAME).lease)
    inspection = LockInspection([bench.client], SCRIPTS)
    (shown,) = inspection.held()
    assert (shown.token, shown.left_ms) == (lease.token, None)
    assert inspection.force(shown)
    assert server.token() is None


def test_an_unprotected_lease_has_nothing_to_extend_or_to_lose(nobody: LockBench) -> None:
    with nobody.locks.hold(NAME, ttl_ms=LONG_MS, on_loss="open") as lease:
        nobody.locks.extend(lease)
    assert nobody.sample("lost_total") == 0


def test_what_asking_again_cannot_change_ends_the_tries() -> None:
    metrics = Metrics()
    locks = LockService(PrimaryStore(NoRedis("lock"), SCRIPTS, holder="x"), metrics)
    with locks.hold(NAME, ttl_ms=LONG_MS, on_loss="open", retries=None, wait_ms=60_000) as lease:
        assert not lease.protected
    tries = metrics.registry.get_sample_value(
        "taskflow_lock_acquisitions_total", {"outcome": "absent"}
    )
    assert tries == 1
