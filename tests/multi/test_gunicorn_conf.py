"""What gunicorn.conf.py promises to whoever starts the web server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.ports import free_port
from tests.support.processes import Gunicorn
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

Start = Callable[..., Gunicorn]


@pytest.fixture
def env(tmp_path: Path, sqlite_url: str, valkey: Valkey) -> dict[str, str]:
    """Valkey, a database that nobody asks, and temporary folders that can be looked into."""
    folders = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "temporary"}
    for folder in folders.values():
        folder.mkdir()
    servers = {"DATABASE_URL": sqlite_url, "REDIS_URL": valkey.url}
    return servers | {name: str(path) for name, path in folders.items()}


def metrics_folders(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "temporary").glob("taskflow-metrics-*"))


@pytest.mark.parametrize(
    ("variable", "value", "takes"),
    [
        ("DB_POOL_SIZE", "many", "a whole number, 1 to 200"),
        ("WEB_THREADS", "0", "a whole number, 1 to 1000"),
        ("WEB_CONCURRENCY", "0", "a whole number, 1 to 1000"),
        ("PORT", "http", "a whole number, 1 to 65535"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_line_and_no_worker(
    tmp_path: Path, env: dict[str, str], variable: str, value: str, takes: str
) -> None:
    line = f"TaskFlow cannot start: {variable}: got {value!r}, takes {takes}"
    with Gunicorn(env | {variable: value}, folder=tmp_path, port=free_port()) as process:
        assert process.wait(timeout_s=20) == 2
        assert process.text().count(line) == 1
        assert "Traceback" not in process.text()
        assert "Booting worker" not in process.text()
    assert metrics_folders(tmp_path) == []


def test_several_workers_without_redis_are_refused(tmp_path: Path, env: dict[str, str]) -> None:
    alone = {name: value for name, value in env.items() if name != "REDIS_URL"}
    line = "TaskFlow cannot start: WEB_CONCURRENCY: got 2, takes 1 while no Redis is configured"
    several = alone | {"WEB_CONCURRENCY": "2"}
    with Gunicorn(several, folder=tmp_path, port=free_port()) as process:
        assert process.wait(timeout_s=20) == 2
        assert process.text().count(line) == 1


def test_sigterm_ends_it_with_0_and_removes_what_it_made(
    tmp_path: Path, env: dict[str, str], start_gunicorn: Start
) -> None:
    process = start_gunicorn(env, workers=2)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    assert len(metrics_folders(tmp_path)) == 1
    assert process.terminate() == 0
    assert psutil.wait_procs(workers, timeout=1)[1] == []
    assert metrics_folders(tmp_path) == []
    assert list((tmp_path / "home").rglob("*")) == []


def test_a_killed_worker_is_replaced_and_its_live_gauges_go(
    tmp_path: Path, env: dict[str, str], start_gunicorn: Start
) -> None:
    process = start_gunicorn(env)
    master = psutil.Process(process.pid)
    (victim,) = master.children()
    (folder,) = metrics_folders(tmp_path)
    assert list(folder.glob(f"gauge_live*_{victim.pid}.db")) != []
    victim.kill()
    eventually(
        lambda: [child for child in master.children() if child.pid != victim.pid],
        what="a new worker",
    )
    assert eventually(process.is_live)
    assert list(folder.glob(f"gauge_live*_{victim.pid}.db")) == []


def test_figures_of_an_earlier_start_do_not_count(
    tmp_path: Path, env: dict[str, str], start_gunicorn: Start
) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    old, other = folder / "counter_1.db", folder / "notes.txt"
    old.write_bytes(b"not even a valid file")
    other.write_text("kept")
    process = start_gunicorn({**env, "PROMETHEUS_MULTIPROC_DIR": str(folder)})
    assert not old.exists()
    assert requests.get(f"{process.base_url}/metrics", timeout=5).status_code == 200
    assert process.terminate() == 0
    assert other.exists()


def test_a_request_whose_head_is_too_large_is_refused_as_a_problem(
    env: dict[str, str], start_gunicorn: Start
) -> None:
    web = start_gunicorn(env)
    url = f"{web.base_url}/health/live"
    many = {f"X-{number}": "1" for number in range(64)}
    answers = [
        requests.get(f"{url}?{'q' * 4_094}", timeout=5),
        requests.get(url, headers={"X-Long": "x" * 8_190}, timeout=5),
        requests.get(url, headers=many, timeout=5),
        requests.get(url, headers={"X-Long": "x" * 8_000}, timeout=5),
    ]
    assert [answer.status_code for answer in answers] == [414, 431, 431, 200]
    for refused in answers[:3]:
        assert refused.headers["Content-Type"] == "application/problem+json"
        told = refused.json()
        assert set(told) == {"type", "title", "status", "detail", "instance"}
        assert told["status"] == refused.status_code
        assert "qqq" not in refused.text
        assert requests.get(f"{web.base_url}{told['type']}", timeout=5).status_code == 200


def test_two_instances_run_side_by_side(env: dict[str, str], start_gunicorn: Start) -> None:
    first, second = start_gunicorn(env), start_gunicorn(env)
    assert first.port != second.port
    assert (first.is_live(), second.is_live()) == (True, True)
