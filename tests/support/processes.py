"""TaskFlow's own processes, started as in production: gunicorn and the scheduler."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import requests

from tests.support.child import ROOT, Child
from tests.support.ports import free_port
from tests.support.waiting import eventually

_READY_TIMEOUT_S = 40.0
_PORT_TRIES = 3
# What a process inherits from the machine. All that TaskFlow reads must come from the test.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CI", "LD_LIBRARY_PATH")


def environment(chosen: Mapping[str, str]) -> dict[str, str]:
    """A small, known environment: a few basics of the machine's, and `chosen`."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **chosen}


class Gunicorn(Child):
    """`gunicorn -c gunicorn.conf.py wsgi:app` on a port of its own."""

    app: ClassVar[str] = "wsgi:app"

    def __init__(self, env: Mapping[str, str], *, folder: Path, port: int) -> None:
        self.port = port
        # Killed ones leave temporary files: they go with the folder.
        own = {"HOST": "127.0.0.1", "PORT": str(port), "TMPDIR": str(folder)}
        chosen = environment({**own, **env})
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", self.app]
        output = folder / f"gunicorn-{port}.log"
        super().__init__(f"gunicorn:{port}", command, output=output, env=chosen, cwd=ROOT)

    @classmethod
    def start(
        cls,
        env: Mapping[str, str],
        workers: int = 1,
        threads: int = 8,
        *,
        folder: Path | None = None,
        port: int | None = None,
    ) -> Self:
        """Start it, and return once `/health/live` answers 200.

        Arguments:
            env: TaskFlow's variables (`DATABASE_URL`, `REDIS_URL`, …), all of them.
            folder: where the output goes; by default a new temporary one.
            port: a fixed port; by default a free one, tried again where it got taken.
        Raises:
            AssertionError: when it ended, or does not answer; its output is shown.
        """
        chosen = {"WEB_CONCURRENCY": str(workers), "WEB_THREADS": str(threads), **env}
        folder = folder or _temporary_folder()
        if port is not None:
            return cls._start_once(chosen, folder, port)
        for _ in range(_PORT_TRIES - 1):
            with contextlib.suppress(_PortTaken):
                return cls._start_once(chosen, folder, free_port())
        return cls._start_once(chosen, folder, free_port())

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_live(self) -> bool:
        """Whether `/health/live` answers 200 within a second."""
        try:
            return requests.get(f"{self.base_url}/health/live", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    @classmethod
    def _start_once(cls, env: Mapping[str, str], folder: Path, port: int) -> Self:
        process = cls(env, folder=folder, port=port)
        try:
            eventually(process._is_ready, timeout_s=_READY_TIMEOUT_S, what="gunicorn answering")
        except BaseException:
            process.kill()
            raise
        return process

    def _is_ready(self) -> bool:
        text = self.text()
        if "already in use" in text:
            raise _PortTaken(text)
        if not self.is_running:
            raise AssertionError(f"gunicorn ended with {self.returncode}:\n{text}")
        return self.is_live()


class SchedulerProcess(Child):
    """`python -m app.scheduler`."""

    @classmethod
    def start(
        cls, env: Mapping[str, str], *, folder: Path | None = None, name: str = "scheduler"
    ) -> Self:
        """Start it and return at once: what it did is seen in the database, not in its output.

        Arguments:
            env: TaskFlow's variables, all of them.
            folder: where the output goes; by default a new temporary one.
            name: tells several apart in the output shown on a failure.
        """
        output = (folder or _temporary_folder()) / f"{name}.log"
        command = [sys.executable, "-m", "app.scheduler"]
        return cls(name, command, output=output, env=environment(env), cwd=ROOT)


class _PortTaken(AssertionError):
    """Somebody took the port between the look and the start."""


def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="taskflow-test-"))
