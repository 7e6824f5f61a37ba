"""One Redis-compatible server process on loopback, ended by its own pid."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.child import Child
from tests.support.killed import Killed
from tests.support.ports import free_port
from tests.support.waiting import eventually

_PORT_TRIES = 5
_READY_TIMEOUT_S = 20.0
_DEFAULTS = (
    *("--bind", "127.0.0.1"),
    *("--save", ""),
    *("--appendonly", "no"),
    *("--maxmemory-policy", "noeviction"),
    *("--enable-debug-command", "local"),
    *("--repl-diskless-sync-delay", "0"),
)


class RedisServer(Killed):
    """One server process. Use `start` of a subclass: it names the binary."""

    name: ClassVar[str] = "redis"

    def __init__(self, binary: Path, folder: Path, *, port: int, args: Sequence[str]) -> None:
        self.folder = folder
        self.port = port
        self._command: list[str | Path] = [
            binary,
            "--port",
            str(port),
            "--dir",
            folder,
            *_DEFAULTS,
            *args,
        ]
        self._config: dict[Any, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._launch()

    @classmethod
    def binary(cls) -> Path | None:
        """The path of the server's program, or None where this machine has none."""
        raise NotImplementedError

    @classmethod
    def start(cls, folder: Path, *, port: int | None = None, args: Sequence[str] = ()) -> Self:
        """Start a server in `folder`, and return once it answers.

        Arguments:
            port: a fixed port; by default a free one, tried again where it got taken.
            args: more of the server's own options, such as `("--appendonly", "yes")`.
        Raises:
            AssertionError: when the server ended, or does not answer; its log is shown.
        """
        binary = cls.binary()
        assert binary is not None, f"this machine has no {cls.name}"
        if port is not None:
            return cls(binary, folder, port=port, args=args)
        for _ in range(_PORT_TRIES - 1):
            with contextlib.suppress(PortTaken):
                return cls(binary, folder, port=free_port(), args=args)
        return cls(binary, folder, port=free_port(), args=args)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    def client(self, **options: Any) -> redis.Redis:
        """A plain client: text answers, 5 s of patience, no retries. Close it, or use `with`."""
        chosen: dict[str, Any] = {"decode_responses": True, "socket_timeout": 5.0, **options}
        return redis.Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0), **chosen)

    def kill(self) -> None:
        """SIGKILL: nothing is saved, connections break."""
        self._child.kill()

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        return self._child.terminate(timeout_s=20)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._child.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._child.thaw()

    def restart(self) -> None:
        """Start again on the same port and in the same folder; a running one is stopped first."""
        if self.is_running:
            self.stop()
        self._launch()

    def reset(self) -> None:
        """Make it as good as new: running, empty, and configured as at its start."""
        self.thaw()
        if not self.is_running:
            self.restart()
        with self.client() as client:
            client.execute_command("CLIENT", "UNPAUSE")
            self._restore_config(client)
            for user in client.acl_users():
                if user != "default":
                    client.acl_deluser(user)
            client.flushall()
            client.execute_command("SCRIPT", "FLUSH")
        # Or whatever an earlier test let it save would be there again after a restart.
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def _restore_config(self, client: redis.Redis) -> None:
        changed = client.config_get("*")
        for option, value in self._config.items():
            if changed.get(option) != value:
                client.config_set(option, value)

    def _launch(self) -> None:
        self._child = Child(self.name, self._command, output=self.folder / "server.log")
        try:
            eventually(self._is_ready, timeout_s=_READY_TIMEOUT_S, what=f"{self.name} answering")
        except BaseException:
            self._child.kill()
            raise
        self._remember_config()

    def _remember_config(self) -> None:
        if self._config or "--requirepass" in self._command:
            return
        with self.client() as client:
            self._config = client.config_get("*")

    def _is_ready(self) -> bool:
        if not self._child.is_running:
            log = self._child.text()
            kind = PortTaken if "Address already in use" in log else AssertionError
            raise kind(f"{self.name} ended with {self._child.returncode}:\n{log}")
        return ping(self.port, pid=self.pid)


class PortTaken(AssertionError):
    """Somebody took the port between the look and the start."""


def ping(port: int, *, pid: int | None = None, timeout_s: float = 1.0) -> bool:
    """Whether a server on `port` answers PING; asking for a password is an answer too.

    Arguments:
        pid: only the server that is this process counts (one with a password is believed).
    """
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            said = b"".join(iter(lambda: connection.recv(4_096), b""))
    except OSError:
        return False
    if pid is None or said.startswith(b"-NOAUTH"):
        return said.startswith((b"+PONG", b"-NOAUTH"))
    return said.startswith(b"+PONG") and f"process_id:{pid}\r\n".encode() in said
