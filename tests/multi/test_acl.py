"""The Redis user of the manual may do all that TaskFlow does, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from app import bootstrap
from app.bootstrap import Container
from app.config import Settings
from app.coordination import deployment, keys
from app.coordination.lock_inspection import LockInspection
from app.coordination.rates import Limit
from app.coordination.scripts import FOLDER
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

COMMAND = re.compile(r"redis\.p?call\('([A-Z]+)'")
SENT = {"evalsha", "script|load", "script|exists", "scan", "blpop"}


def rule() -> str:
    manual = (ROOT / "docs" / "operating.md").read_text()
    (found,) = re.findall(r"^ACL SETUSER .*$", manual, re.MULTILINE)
    return str(found)


@pytest.fixture
def user(valkey: Valkey) -> Iterator[redis.Redis]:
    """The manual's user exists; what it was refused is in the server's log."""
    with valkey.client() as raw:
        raw.execute_command(*rule().split())
        raw.execute_command("ACL", "LOG", "RESET")
        yield raw
        raw.execute_command("ACL", "DELUSER", "taskflow")


@pytest.fixture
def container(valkey: Valkey, tmp_path: Path) -> Iterator[Container]:
    url = valkey.url.replace("redis://", "redis://taskflow:password@")
    env = {"REDIS_URL": url, "DATABASE_URL": f"sqlite:///{tmp_path / 'taskflow.db'}"}
    parts = bootstrap.build(Settings.from_env(env))
    yield parts
    parts.close()


def refused(user: redis.Redis) -> list[str]:
    log = user.execute_command("ACL", "LOG")
    return [str(entry) for entry in log]


def test_the_manual_lists_just_the_commands_of_the_scripts_and_the_client() -> None:
    used = {
        name.lower() for file in FOLDER.glob("*.lua") for name in COMMAND.findall(file.read_text())
    }
    assert set(re.findall(r"\+(\S+)", rule())) == used | SENT


def test_locks_limits_claims_and_scripts_work_for_the_manuals_user(
    user: redis.Redis, container: Container
) -> None:
    clients = deployment.targets(container.settings)
    (node,) = deployment.load(clients, container.scripts)
    assert all(script.loaded for script in node.scripts)
    pass_a_lock_on(container)
    assert LockInspection(clients, container.scripts).held() == []
    limit = Limit("minute", 2, 60_000)
    container.rates.refund(container.rates.admit("ada", [limit]))
    assert container.rates.admit("ada", [limit]).standings[0].remaining == 1
    assert container.rates.reset("ada", ["minute"]) == 1
    container.fleet.join()
    eventually(lambda: user.exists(keys.FLEET), what="the fleet's beat")
    assert container.claims.claim("overdue", 3600, token="a", ttl_ms=60_000) == "claimed"
    container.claims.settle("overdue", 3600, token="a", done=True)
    assert [each["status"] for each in container.health_of_redis()] == ["pass"] * 3
    assert refused(user) == []


def pass_a_lock_on(container: Container) -> None:
    """From a holder to one who waits for it."""
    lease = container.locks.acquire("report", ttl_ms=60_000)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(container.locks.acquire, "report", ttl_ms=60_000, retries=None)
        inspection = LockInspection(deployment.targets(container.settings), container.scripts)
        eventually(lambda: inspection.show("report").waiters == 1, what="a waiter")
        container.locks.extend(lease)
        assert container.locks.release(lease)
        assert container.locks.release(waits.result(10))


@pytest.mark.usefixtures("user")
def test_it_may_touch_no_other_key_and_run_nothing_else(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url, username="taskflow", password="password") as taskflow:
        for command in (["GET", "other"], ["FLUSHALL"], ["EVAL", "return 1", "0"], ["KEYS", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                taskflow.execute_command(*command)
