"""What `make run` starts, on free ports and with its data in a folder of the test."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import requests

from tests.support.child import ROOT, Child
from tests.support.ports import free_port
from tests.support.processes import environment
from tests.support.waiting import eventually


class LocalRun(Child):
    """`python -m app.cli.local` on free ports, with its data in a folder of the test."""

    def __init__(self, folder: Path, number: int, chosen: dict[str, str]) -> None:
        self.folder = folder
        self.port, self.valkey_port = free_port(), free_port()
        env = {
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "VALKEY_PORT": str(self.valkey_port),
            "WEB_CONCURRENCY": "1",
            "TMPDIR": str(folder.parent),
            **chosen,
        }
        command = [sys.executable, "-m", "app.cli.local"]
        output = folder.parent / f"run-{number}.log"
        super().__init__(
            f"make run {number}", command, output=output, env=environment(env), cwd=ROOT
        )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_until_ready(self) -> LocalRun:
        def is_ready() -> bool:
            assert self.is_running, f"ended with {self.returncode}:\n{self.text()}"
            try:
                return requests.get(self.url("/health/ready"), timeout=2).status_code == 200
            except requests.RequestException:
                return False

        eventually(is_ready, timeout_s=40, what="/health/ready")
        return self

    def family(self) -> list[psutil.Process]:
        """All that it started, gunicorn's workers included."""
        return list(psutil.Process(self.pid).children(recursive=True))

    def kill_all(self) -> None:
        if self.is_running:
            for process in self.family():
                process.kill()
        self.kill()
