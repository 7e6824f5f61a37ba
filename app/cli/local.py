"""`make run`: the whole service on this machine, with embedded parts for what is not given.

Without REDIS_URL (or REDIS_HOST, REDIS_NODES) it starts a Valkey, without DATABASE_URL it uses
SQLite; both live in DATA_DIR. Read from the environment, beside what `app.config` reads:

    HOST, PORT     where the web server listens (127.0.0.1, 8000)
    VALKEY_PORT    where the embedded Valkey listens, on 127.0.0.1 (6399)
    DATA_DIR       the folder of the embedded parts (data)

Order matters at both ends: Valkey answers before anything else starts, and it ends last,
when the scheduler has released its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from app.cli import attach
from app.cli.embedded_valkey import LocalStartError, become, running
from app.cli.processes import from_procfile
from app.config import Settings
from app.errors import ConfigError, TaskFlowError

ROOT = Path(__file__).resolve().parents[2]
_EMBEDDED_POLL_S = "5"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run, and where."""

    host: str
    port: int
    valkey_port: int | None  # None: Redis is given
    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Plan:
        """Decide what is embedded.

        Raises:
            ConfigError: for the first variable that is wrong.
        """
        folder = Path(environ.get("DATA_DIR") or "data").absolute()
        host, port = environ.get("HOST") or "127.0.0.1", _port(environ, "PORT", 8000)
        # Checked here too: gunicorn reads it before our own configuration can, without a word.
        _whole(environ, "WEB_CONCURRENCY", 2, most=1_000, takes="a whole number, 1 to 1000")
        given = any(environ.get(name) for name in attach.REDIS_VARIABLES)
        valkey_port = None if given else _port(environ, "VALKEY_PORT", 6399)
        chosen = {**environ, "HOST": host, "PORT": str(port)}
        chosen["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
        if not environ.get("DATABASE_URL"):
            chosen["DATABASE_URL"] = f"sqlite:///{folder / 'taskflow.db'}"
        if valkey_port is not None:
            chosen["REDIS_URL"] = f"redis://127.0.0.1:{valkey_port}/0"
            chosen["SCHEDULER_POLL_S"] = environ.get("SCHEDULER_POLL_S") or _EMBEDDED_POLL_S
        return cls(host, port, valkey_port, folder, chosen)

    @property
    def url(self) -> str:
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{shown}:{self.port}"


def main(arguments: list[str]) -> int:
    """Run until a signal comes or a part ends; 0 after a clean stop, 2 for a wrong setting."""
    _end_like_ctrl_c(signal.SIGTERM)
    try:
        plan = Plan.from_env(os.environ)
        if arguments == ["redis"]:
            become(port=plan.valkey_port or 6399, folder=plan.folder / "valkey")
        settings = Settings.from_env(plan.environ)
        return _run(plan, settings)
    except ConfigError as error:
        return _cannot_start(str(error), code=2)
    except TaskFlowError as error:
        return _cannot_start(str(error), code=1)
    except KeyboardInterrupt:
        return 0


def _run(plan: Plan, settings: Settings) -> int:
    plan.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone_in(plan.folder))
        _check_free(plan.host, plan.port, variable="PORT")
        if plan.valkey_port is not None:
            _check_free("127.0.0.1", plan.valkey_port, variable="VALKEY_PORT")
        _migrate(settings.database_url)
        if plan.valkey_port is not None:
            valkey = running(port=plan.valkey_port, folder=plan.folder / "valkey")
            stack.enter_context(valkey)
        attach.announce(plan.folder / "lock", plan.environ)
        processes = from_procfile(ROOT / "Procfile", ["web", "scheduler"], plan.environ)
        _survive_the_terminal()
        print(f"TaskFlow is at {plan.url}  (docs at /docs; Ctrl-C ends it)", flush=True)
        return processes.run()


def _migrate(url: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from app.db.migrate import upgrade

    try:
        upgrade(url)
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise LocalStartError(f"the database cannot be migrated: {reason}") from error


def _port(environ: Mapping[str, str], variable: str, default: int) -> int:
    return _whole(environ, variable, default, most=65_535, takes="a port number, 1 to 65535")


def _whole(
    environ: Mapping[str, str], variable: str, default: int, *, most: int, takes: str
) -> int:
    given = environ.get(variable) or str(default)
    if given.isdecimal() and 1 <= int(given) <= most:
        return int(given)
    raise ConfigError(variable, repr(given), takes)


def _check_free(host: str, port: int, *, variable: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise ConfigError("HOST", repr(host), "a name or address of this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            takes = f"a port that can be listened on; {host}:{port} cannot ({error.strerror})"
            raise ConfigError(variable, str(port), takes) from None


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two services in one folder would write one append-only file: the second is refused."""
    with (folder / "lock").open("a") as lock:  # never emptied: its holder has written there
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            takes = "a folder that no other running TaskFlow uses"
            raise ConfigError("DATA_DIR", repr(str(folder)), takes) from None
        yield


def _end_like_ctrl_c(number: signal.Signals) -> None:
    """Until honcho takes over, a signal unwinds the start, so that nothing is left running."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(number, interrupt)


def _survive_the_terminal() -> None:
    """A closed terminal ends the service as SIGTERM does; its output then goes nowhere."""

    def hang_up(*_: Any) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGHUP, hang_up)


def _cannot_start(reason: str, *, code: int) -> int:
    print(f"TaskFlow cannot start: {reason}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
