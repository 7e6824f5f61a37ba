"""Which web workers know of each other, as gunicorn starts, ends and replaces them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import psutil
import pytest
import redis

from app.coordination import keys
from tests.multi.conftest import Env
from tests.support.processes import Gunicorn
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

Start = Callable[..., Gunicorn]
WORKERS = 3


@pytest.fixture
def raw(valkey: Valkey) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def known(raw: redis.Redis) -> set[int]:
    """The process ids of the workers that count as alive."""
    return {int(str(identity).split(":")[1]) for identity in raw.zrange(keys.FLEET, 0, -1)}


def workers_of(process: Gunicorn) -> dict[int, psutil.Process]:
    return {child.pid: child for child in psutil.Process(process.pid).children()}


def test_every_worker_is_known_from_its_start_before_any_request(
    shared_env: Env, start_gunicorn: Start, raw: redis.Redis
) -> None:
    process = start_gunicorn(shared_env, workers=WORKERS)
    eventually(lambda: known(raw) == set(workers_of(process)), what="all workers known")
    assert len(known(raw)) == WORKERS


def test_a_worker_that_ends_gracefully_is_missed_at_once_and_a_killed_one_is_not(
    shared_env: Env, start_gunicorn: Start, raw: redis.Redis
) -> None:
    process = start_gunicorn(shared_env, workers=WORKERS)
    eventually(lambda: known(raw) == set(workers_of(process)), what="all workers known")
    ended, killed, _ = workers_of(process).values()
    ended.send_signal(signal.SIGTERM)
    psutil.wait_procs([ended], timeout=30)
    assert ended.pid not in known(raw)
    killed.kill()
    psutil.wait_procs([killed], timeout=30)
    assert killed.pid in known(raw)  # until its time is over


def test_a_server_that_ends_leaves_nobody_on_the_list(
    shared_env: Env, start_gunicorn: Start, raw: redis.Redis
) -> None:
    process = start_gunicorn(shared_env, workers=WORKERS)
    eventually(lambda: known(raw) == set(workers_of(process)), what="all workers known")
    assert process.terminate() == 0
    assert known(raw) == set()
