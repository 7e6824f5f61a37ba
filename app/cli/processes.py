"""TaskFlow's processes under honcho, ended as a deployment would end them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import honcho.manager
from honcho.environ import parse_procfile

# Seconds from the first end until honcho kills the rest: longer than gunicorn's
# graceful_timeout and a sweep's batch, where honcho's own 5 would cut requests off.
_GRACE_S = 40
_ASKED_TO_STOP = {128 + signal.SIGINT, 128 + signal.SIGTERM}


class _Leaders:
    """Ends the process that a command became, and leaves its children to it.

    honcho signals whole groups: a gunicorn worker told twice to end, by us and by its master,
    dies of the second time while it closes down.
    """

    def terminate(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


class Processes(honcho.manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Runs commands side by side; when one ends or a signal comes, all are sent SIGTERM.

    Each command runs in a session of its own, so that a Ctrl-C reaches only us.
    """

    _postponed = False

    def __init__(self) -> None:
        super().__init__()
        self._procmgr = _Leaders()

    def run(self) -> int:
        """Block until all have ended; 0 when they were asked to and did so cleanly."""
        honcho.manager.KILL_WAIT = _GRACE_S
        self.loop()
        codes = [process["returncode"] for process in self._processes.values()]
        if self.returncode in _ASKED_TO_STOP:
            # -SIGTERM: it was told to end before it had set up its handler.
            return 0 if all(code in (0, -signal.SIGTERM) for code in codes) else 1
        return self.returncode or 1

    def terminate(self) -> None:
        """Send SIGTERM to all, once; a signal during the start waits until all have started.

        honcho looks up a pid for each process here, which it does not have before that.
        """
        self._postponed = not super()._all_started()
        if not self._postponed:
            super().terminate()

    def _all_started(self) -> bool:
        started: bool = super()._all_started()
        if started and self._postponed:
            self.terminate()
        return started


def from_procfile(path: Path, names: list[str], environ: Mapping[str, str]) -> Processes:
    """The named lines of the Procfile, each to run in its folder with `environ`."""
    commands = parse_procfile(path.read_text()).processes
    processes = Processes()
    for name in names:
        processes.add_process(name, commands[name], env=dict(environ), cwd=str(path.parent))
    return processes
