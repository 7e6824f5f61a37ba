"""Web processes under traffic while something is taken away from them."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable

import pytest
import requests

from tests.multi.caller import Caller
from tests.multi.conftest import Env
from tests.support.load import Load, Send, Sent
from tests.support.processes import Gunicorn
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

StartWeb = Callable[..., Gunicorn]
BUDGET_S = 0.120


@pytest.fixture
def web(shared_env: Env, start_gunicorn: StartWeb) -> Gunicorn:
    return start_gunicorn(shared_env, workers=2)


def traffic(web: Gunicorn) -> list[Send]:
    """Two readers and two writers of one project."""
    caller = Caller.register(web.base_url)
    tasks = f"/projects/{caller.made('/projects', {'name': 'P'})['id']}/tasks"

    def read() -> requests.Response:
        return caller.get(tasks)

    def write() -> requests.Response:
        return caller.post(tasks, {"title": "T"})

    return [read, read, write, write]


def test_script_flush_fails_no_request(web: Gunicorn, valkey: Valkey) -> None:
    with valkey.client() as raw, Load(traffic(web)) as load:
        for _ in range(20):
            raw.script_flush()
            load.wait_for(10)
    assert set(load.outcomes()) == {200, 201}
    metrics = requests.get(f"{web.base_url}/metrics", timeout=5).text
    assert "taskflow_redis_scripts_reloaded_total{" in metrics
    # Nor did any request merely get by without it: NOSCRIPT would have been counted as refused.
    assert 'kind="refused"' not in metrics


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_lost_valkey_costs_no_request_and_all_is_back_by_itself(
    web: Gunicorn, valkey: Valkey, how: str
) -> None:
    lose, give_back = {
        "killed": (valkey.kill, valkey.restart),
        "stopped": (valkey.freeze, valkey.thaw),
    }[how]
    with Load(traffic(web)) as load:
        load.wait_for(200)
        lose()
        lost_at = time.monotonic()
        load.wait_for(300)
        assert _health(web)["status"] == "warn"
        give_back()
        returned_at = time.monotonic()
        eventually(lambda: _health(web)["status"] == "pass", what="Redis to be in use again")
        back_at = time.monotonic()
        load.wait_for(200)
    assert set(load.outcomes()) == {200, 201}
    before = [each for each in load.sent if each.ended < lost_at]
    during = [each for each in load.sent if lost_at < each.began < returned_at]
    after = [each for each in load.sent if each.began > back_at]
    # The budget is what Redis may add to a request; the rest is the machine's and PostgreSQL's.
    assert _p95(during) <= _p95(before) + BUDGET_S
    assert _counted(web, after)


def test_sigterm_cuts_off_no_request(web: Gunicorn) -> None:
    with Load(traffic(web)) as load:
        load.wait_for(100)
        assert web.end_with(signal.SIGTERM) == 0
        load.wait_for(20)
    assert set(load.outcomes()) == {200, 201, "refused"}
    assert "[ERROR]" not in web.text()


def _health(web: Gunicorn) -> dict[str, object]:
    answer = requests.get(f"{web.base_url}/health", timeout=10)
    assert answer.status_code == 200, answer.text
    document: dict[str, object] = answer.json()
    return document


def _p95(sent: list[Sent]) -> float:
    return statistics.quantiles([each.seconds for each in sent], n=20)[-1]


def _counted(web: Gunicorn, sent: list[Sent]) -> bool:
    """Whether limits are decided again: an answer names what remains."""
    caller = Caller.register(web.base_url)
    return bool(sent) and "RateLimit" in caller.get("/projects").headers
