"""The scheduler as a process: what it serves to Prometheus, and what stops its start."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import requests

from app.coordination import keys
from app.db import invalidations
from app.db.engine import Database
from app.db.migrate import upgrade
from tests.support.need import skip_or_fail
from tests.support.ports import free_port
from tests.support.processes import SchedulerProcess
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

Start = Callable[..., SchedulerProcess]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_scheduler_serves_the_figures_of_its_runs(
    sqlite_url: str, start_scheduler: Start, host: str
) -> None:
    if host == "[::1]" and not _has_ipv6():
        skip_or_fail("this machine has no IPv6")
    upgrade(sqlite_url)
    where = f"{host}:{free_port()}"
    env = {"DATABASE_URL": sqlite_url, "SCHEDULER_METRICS": where, "INSTANCE_ID": "scheduler-1"}
    scheduler = start_scheduler(env)
    ran = 'taskflow_cron_runs_total{instance="scheduler-1",job="overdue",outcome="succeeded"} 1.0'
    eventually(lambda: ran in _figures(where), timeout_s=20, what="the figures of a run")
    assert scheduler.terminate() == 0


def test_an_address_that_is_taken_stops_the_start(sqlite_url: str, start_scheduler: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        scheduler = start_scheduler({"DATABASE_URL": sqlite_url, "SCHEDULER_METRICS": where})
        assert scheduler.wait() == 2
    said = f"SCHEDULER_METRICS: got '{where}', takes an address of this machine that is free"
    assert said in scheduler.text()


@pytest.mark.parametrize("given", ["9100", "host:", "host:0", "host:70000"])
def test_an_address_that_is_none_stops_the_start(given: str, start_scheduler: Start) -> None:
    scheduler = start_scheduler({"SCHEDULER_METRICS": given})
    assert scheduler.wait() == 2
    said = f"SCHEDULER_METRICS: got '{given}', takes host:port to serve them on"
    assert said in scheduler.text()


def test_a_scheduler_tells_what_a_writer_that_died_left_in_the_outbox(
    sqlite_url: str, valkey: Valkey, start_scheduler: Start
) -> None:
    upgrade(sqlite_url)
    db = Database(sqlite_url, pool_size=2, pool_timeout_ms=2_000)
    with db.write() as session:
        invalidations.record(session, ["project:1"], ["lists"])
    scheduler = start_scheduler({"DATABASE_URL": sqlite_url, "REDIS_URL": valkey.url})
    eventually(lambda: _untold(db) == 0, timeout_s=20, what="the record to be told")
    with valkey.client() as raw:
        assert raw.zscore(keys.cache("project:1", "").tags, "lists") == 1
    assert scheduler.terminate() == 0
    db.close()


def _untold(db: Database) -> int:
    with db.read() as session:
        return invalidations.untold(session, least_age_ms=0).records


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _figures(where: str) -> str:
    try:
        return requests.get(f"http://{where}/metrics", timeout=2).text
    except requests.ConnectionError:
        return ""
