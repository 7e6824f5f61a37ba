"""`make run`'s launcher, as a user meets it: one command up, one signal down, data kept."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
import requests

from tests.support.local_run import LocalRun
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey

Start = Callable[..., "LocalRun"]
ACCOUNT = {"email": "ada@example.org", "password": "correct horse", "name": "Ada"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[LocalRun] = []

    def begin(folder: str = "a folder", **chosen: str) -> LocalRun:
        runs.append(LocalRun(tmp_path / folder, len(runs), chosen))
        return runs[-1]

    yield begin
    for run in runs:
        run.kill_all()


def assert_refused(run: LocalRun, *, line: str) -> None:
    assert run.wait(timeout_s=30) == 2
    assert run.text() == f"TaskFlow cannot start: {line}\n"


def assert_ends_cleanly(run: LocalRun, number: signal.Signals) -> None:
    family = run.family()
    assert len([p for p in family if "valkey-server" in p.name()]) == 1
    assert run.end_with(number) == 0
    assert psutil.wait_procs(family, timeout=1)[1] == []
    assert "ready to exit" in (run.folder / "valkey" / "valkey.log").read_text()


def test_ctrl_c_ends_everything_and_a_second_run_finds_the_data(start: Start) -> None:
    first = start().wait_until_ready()
    assert f"TaskFlow is at {first.url('')}  (docs at /docs; Ctrl-C ends it)" in first.text()
    assert requests.post(first.url("/api/v1/accounts"), json=ACCOUNT, timeout=10).status_code == 201
    with redis.Redis(port=first.valkey_port) as client:
        client.set("kept", "yes")
    assert_ends_cleanly(first, signal.SIGINT)
    assert_stopped_by_themselves(first)

    second = start().wait_until_ready()
    login = {"email": ACCOUNT["email"], "password": ACCOUNT["password"]}
    answer = requests.post(second.url("/api/v1/sessions"), json=login, timeout=10)
    assert answer.status_code == 201
    with redis.Redis(port=second.valkey_port) as client:
        assert client.get("kept") == b"yes"
    assert_ends_cleanly(second, signal.SIGTERM)
    assert_stopped_by_themselves(second)


def assert_stopped_by_themselves(run: LocalRun) -> None:
    said = " ".join(run.text().split())
    for name in ("web", "scheduler"):
        assert f"{name} stopped (rc=0)" in said
    assert "SIGKILL" not in said
    assert "was sent SIGTERM" not in said  # gunicorn's word for a worker that a signal ended


def test_a_closed_terminal_ends_everything_too(start: Start) -> None:
    assert_ends_cleanly(start().wait_until_ready(), signal.SIGHUP)


def test_redis_url_replaces_the_embedded_valkey(start: Start, valkey: Valkey) -> None:
    run = start(REDIS_URL=valkey.url).wait_until_ready()
    assert not [p for p in run.family() if "valkey-server" in p.name()]
    assert not (run.folder / "valkey").exists()


def test_a_dead_web_server_ends_the_rest_and_the_exit_code_tells(start: Start) -> None:
    run = start().wait_until_ready()
    family = run.family()
    masters = [p for p in family if "gunicorn" in p.cmdline() and p.children()]
    assert len(masters) == 1
    masters[0].kill()
    assert run.wait() != 0
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_wrong_setting_is_one_line_and_leaves_nothing_behind(start: Start) -> None:
    run = start(DB_POOL_SIZE="many")
    assert_refused(run, line="DB_POOL_SIZE: got 'many', takes a whole number, 1 to 200")
    assert not run.folder.exists()


@pytest.mark.parametrize("variable", ["PORT", "VALKEY_PORT"])
def test_a_taken_port_is_one_line_that_names_its_variable(start: Start, variable: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        takes = f"a port that can be listened on; 127.0.0.1:{port} cannot (Address already in use)"
        assert_refused(start(**{variable: port}), line=f"{variable}: got {port}, takes {takes}")


def test_two_runs_in_one_folder_are_refused(start: Start) -> None:
    first = start().wait_until_ready()
    takes = "a folder that no other running TaskFlow uses"
    announced = (first.folder / "lock").read_text()
    assert_refused(start(), line=f"DATA_DIR: got {str(first.folder)!r}, takes {takes}")
    assert (first.folder / "lock").read_text() == announced != ""
    assert requests.get(first.url("/health/ready"), timeout=5).status_code == 200


def test_a_database_that_cannot_be_migrated_is_one_line(start: Start) -> None:
    run = start(DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert run.wait(timeout_s=30) == 1
    assert run.text().startswith("TaskFlow cannot start: ")
    assert run.text().count("\n") == 1
