"""A process that a test started: signals go to its own pid, output goes to a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import journal
from tests.support.killed import Killed
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


class Child(Killed):
    """One process in a session of its own, so that a Ctrl-C at pytest does not reach it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        output: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.output = output
        output.parent.mkdir(parents=True, exist_ok=True)
        journal.record(name, output)
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        return self.returncode is None

    def text(self) -> str:
        """All that it has written."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def wait_for_output(self, text: str, *, timeout_s: float = 20.0) -> None:
        """Wait until the output holds `text`."""
        eventually(
            lambda: text in self.text(), timeout_s=timeout_s, what=f"{text!r} from {self.name}"
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens where the process has ended already."""
        self._process.send_signal(number)

    def terminate(self, *, timeout_s: float = 40.0) -> int:
        """SIGTERM, then wait; returns the exit code. Frozen processes are thawed first."""
        return self.end_with(signal.SIGTERM, timeout_s=timeout_s)

    def end_with(self, number: signal.Signals, *, timeout_s: float = 40.0) -> int:
        """Send `number`, wait for the end, return the exit code.

        Raises:
            AssertionError: when it still runs after `timeout_s` seconds; it is killed then.
        """
        self.send(number)
        self.thaw()
        try:
            return self.wait(timeout_s=timeout_s)
        except AssertionError:
            self.kill()
            raise

    def wait(self, *, timeout_s: float = 40.0) -> int:
        """Wait for the end by itself; returns the exit code."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            shown = journal.tail(self.output)
            raise AssertionError(f"{self.name} still runs after {timeout_s} s:\n{shown}") from None

    def kill(self) -> None:
        """SIGKILL to the whole session (workers too), and reap."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: sockets stay open, and nothing answers."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)
