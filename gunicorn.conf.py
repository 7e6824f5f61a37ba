"""How gunicorn serves TaskFlow: `gunicorn -c gunicorn.conf.py wsgi:app`.

Read from the environment, beside what `app.config` reads:
    HOST, PORT        where to listen (127.0.0.1, 8000)
    WEB_CONCURRENCY   worker processes (2)
    WEB_THREADS       threads of each worker (8)

Nothing is shared across the fork: every worker builds its own pools and clients. The master
only checks the settings, so that a wrong one ends the start with one line and status 2.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from app.config import Settings
from app.errors import ConfigError

_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_OWN_FOLDER = "taskflow-metrics-"


def _stop(error: ConfigError) -> NoReturn:
    print(f"TaskFlow cannot start: {error}", file=sys.stderr, flush=True)
    sys.exit(2)


def _whole(variable: str, default: int, *, most: int) -> int:
    """A whole number from the environment, 1 to `most`."""
    given = os.environ.get(variable) or str(default)
    if given.isdecimal() and 1 <= int(given) <= most:
        return int(given)
    _stop(ConfigError(variable, repr(given), f"a whole number, 1 to {most}"))


def _address() -> str:
    host = os.environ.get("HOST") or "127.0.0.1"
    port = _whole("PORT", 8000, most=65_535)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = _address()
workers = _whole("WEB_CONCURRENCY", 2, most=1_000)
threads = _whole("WEB_THREADS", 8, most=1_000)
worker_class = "gthread"
preload_app = False

# Seconds. An orchestrator's grace must be longer than `graceful_timeout`; a load balancer's
# idle time must be shorter than `keepalive`, or it meets connections that are being closed.
timeout = 30
graceful_timeout = 25
keepalive = 75

# The workers' heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# Its default path is one for the whole user: two instances would collide on it.
control_socket_disable = True

accesslog = None
errorlog = "-"
loglevel = os.environ.get("LOG_LEVEL") or "info"


def on_starting(_server: Any) -> None:
    """In the master, before any worker: check the settings, make the folder of the metrics."""
    try:
        Settings.from_env()
    except ConfigError as error:
        _stop(error)
    _prepare_metrics_folder()


def _prepare_metrics_folder() -> None:
    """The workers add up their figures in files; those of an earlier start must not count."""
    given = os.environ.get(_METRICS)
    if not given:
        os.environ[_METRICS] = tempfile.mkdtemp(prefix=_OWN_FOLDER)
        return
    folder = Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def post_worker_init(worker: Any) -> None:
    """In each worker, before its first request: the scripts go to every Redis node."""
    worker.wsgi.extensions["taskflow"].load_scripts()


def child_exit(_server: Any, worker: Any) -> None:
    """In the master: a dead worker's live gauges must not be added up any longer."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def on_exit(_server: Any) -> None:
    """In the master, last: the folder of the metrics goes, if it was made here.

    A reload runs this file again, so only the environment knows which folder that was.
    """
    folder = os.environ.get(_METRICS, "")
    if Path(folder).name.startswith(_OWN_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
