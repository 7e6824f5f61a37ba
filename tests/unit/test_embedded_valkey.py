"""The Valkey of `make run` is never left behind, and says why it did not start."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from app.cli import embedded_valkey
from app.cli.embedded_valkey import LocalStartError, running
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey, ping


def test_it_answers_inside_and_is_gone_outside(tmp_path: Path) -> None:
    port = free_port()
    with running(port=port, folder=tmp_path / "a folder"):
        assert ping(port)
    assert not ping(port)


def test_a_ctrl_c_in_the_middle_of_its_start_leaves_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[subprocess.Popen[bytes]] = []
    launch = embedded_valkey._launch

    def launch_and_interrupt(command: list[str], log: Path) -> subprocess.Popen[bytes]:
        launched.append(launch(command, log))
        signal.raise_signal(signal.SIGINT)
        return launched[0]

    monkeypatch.setattr(embedded_valkey, "_launch", launch_and_interrupt)
    entered = False
    with pytest.raises(KeyboardInterrupt), running(port=free_port(), folder=tmp_path):
        entered = True
    assert not entered
    assert launched[0].returncode is not None


def test_a_server_that_cannot_start_names_its_log(tmp_path: Path, valkey: Valkey) -> None:
    with (
        pytest.raises(LocalStartError, match=r"Valkey ended with 1; see .*valkey\.log"),
        running(port=valkey.port, folder=tmp_path),
    ):
        pytest.fail("it answered from a port that another server has")
