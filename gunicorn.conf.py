"""How gunicorn serves TaskFlow: `gunicorn -c gunicorn.conf.py wsgi:app`.

Read from the environment, beside what `app.config` reads:
    HOST, PORT        where to listen (127.0.0.1, 8000)
    WEB_CONCURRENCY   worker processes (2; 1 where no Redis is configured)
    WEB_THREADS       threads of each worker (8)

Nothing is shared across the fork: every worker builds its own pools and clients. The master
only checks the settings, so that a wrong one ends the start with one line and status 2.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from app.cli.attach import REDIS_VARIABLES
from app.config import Settings
from app.coordination.scripts import ScriptRegistry
from app.errors import ConfigError, ScriptContractError, TaskFlowError

_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_OWN_FOLDER = "taskflow-metrics-"
_ACCEPT_QUEUE_S = 1.0
_WORKERS = 2


def _stop(error: TaskFlowError) -> NoReturn:
    print(f"TaskFlow cannot start: {error}", file=sys.stderr, flush=True)
    sys.exit(2)


def _has_redis() -> bool:
    return any(os.environ.get(name) for name in REDIS_VARIABLES)


def _whole(variable: str, default: int, *, most: int) -> int:
    """A whole number from the environment, 1 to `most`."""
    given = os.environ.get(variable) or str(default)
    if given.isdecimal() and 1 <= int(given) <= most:
        return int(given)
    _stop(ConfigError(variable, repr(given), f"a whole number, 1 to {most}"))


class Worker(ThreadWorker):
    """gunicorn's gthread, which may be told by the kernel first that nobody listens any more."""

    def accept(self, listener: Any) -> None:
        try:
            super().accept(listener)
        except OSError as error:
            # The master has stopped listening, and its SIGTERM is on its way.
            if error.errno != errno.EINVAL:
                raise


def _write_problem(sock: socket.socket, status: int, reason: str, _message: str) -> None:
    """gunicorn's own answer to what it cannot read, in the shape of all of ours.

    Its message repeats what was sent, and its page is HTML.
    """
    from app.api import problems

    body = problems.unreadable(status)
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n"
        f"Content-Type: {problems.CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    util.write_nonblock(sock, head.encode("latin-1") + body)


util.write_error = _write_problem


def _address() -> str:
    host = os.environ.get("HOST") or "127.0.0.1"
    port = _whole("PORT", 8000, most=65_535)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


bind = _address()
workers = _whole("WEB_CONCURRENCY", _WORKERS if _has_redis() else 1, most=1_000)
threads = _whole("WEB_THREADS", 8, most=1_000)
worker_class = Worker
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

# Bytes of the request line, headers, and bytes of each: beyond them 414 or 431.
limit_request_line = 4_094
limit_request_fields = 64
limit_request_field_size = 8_190

# A client must not choose where the application believes to be mounted.
forwarder_headers = ""

accesslog = None
errorlog = "-"
loglevel = os.environ.get("LOG_LEVEL") or "info"


def on_starting(_server: Any) -> None:
    """In the master, before any worker: check settings and scripts, make the metrics' folder."""
    try:
        _refuse_several_without_redis(Settings.from_env())
        ScriptRegistry.from_folder().verify()
    except (ConfigError, ScriptContractError) as error:
        _stop(error)
    _prepare_metrics_folder()


def _refuse_several_without_redis(settings: Settings) -> None:
    """Limits and cache are then each process's own: two would answer differently."""
    if workers > 1 and not settings.has_redis:
        raise ConfigError("WEB_CONCURRENCY", str(workers), "1 while no Redis is configured")


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


def when_ready(server: Any) -> None:
    """In the master: stop listening at the very beginning of a stop.

    Otherwise the kernel goes on taking connections while the workers finish theirs, and resets
    them when the last worker ends: requests that nobody had read, but that somebody had sent.
    """
    stop = server.stop

    def refuse_and_stop(*args: Any, **options: Any) -> None:
        for listener in server.LISTENERS:
            _stop_listening(listener.sock)
        stop(*args, **options)

    server.stop = refuse_and_stop


def _stop_listening(listener: socket.socket) -> None:
    """Refuse new connections, as soon as the workers have taken all that wait to be accepted."""
    until = time.monotonic() + _ACCEPT_QUEUE_S
    while _waiting_for_accept(listener) and time.monotonic() < until:
        time.sleep(0)
    listener.shutdown(socket.SHUT_RD)


def _waiting_for_accept(listener: socket.socket) -> int:
    """Linux: for a listening socket, `tcpi_unacked` is the length of its accept queue (tcp(7))."""
    if not sys.platform.startswith("linux") or listener.family == socket.AF_UNIX:
        return 0
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("I", info, 24)[0])


def post_worker_init(worker: Any) -> None:
    """In each worker, before its first request: find Redis, load the scripts, see the outbox.

    The worker is among those that share the limits from now on: Redis may be lost before it serves.
    """
    parts = worker.wsgi.extensions["taskflow"]
    parts.reach_redis()
    parts.relay.begin()
    parts.fleet.join()


def worker_exit(_server: Any, worker: Any) -> None:
    """In a worker that was not killed, last: the others' shares of the limits grow at once.

    Nothing is to be done for one that never came to its application, nor in the master, which
    calls this too for a worker that it finds gone.
    """
    application = getattr(worker, "wsgi", None)
    if application is not None:
        application.extensions["taskflow"].close()


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
