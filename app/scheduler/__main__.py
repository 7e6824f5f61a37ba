"""`python -m app.scheduler`: one scheduler process. Run as many as you like."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import structlog
from prometheus_client import start_http_server

from app import bootstrap
from app.bootstrap import Container
from app.config import Settings
from app.errors import ConfigError, ScriptContractError
from app.scheduler.jobs import table
from app.scheduler.loop import Loop
from app.scheduler.runner import Runner


def main() -> int:
    """Run until SIGTERM or SIGINT, which stop a sweep between two batches; the exit code."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        container = bootstrap.build(Settings.from_env())
        container.scripts.verify()
        _serve_metrics(container)
    except (ConfigError, ScriptContractError) as error:
        print(f"TaskFlow cannot start: {error}", file=sys.stderr)
        return 2
    log = structlog.get_logger("app.scheduler")
    container.reach_redis()
    container.relay.begin()
    runner = Runner(
        container.db,
        container.claims,
        container.metrics,
        instance=container.identity,
        label=container.settings.label,
        stopping=stopping,
    )
    poll_s = container.settings.scheduler_poll_s
    log.info("scheduler.started", poll_s=poll_s)
    Loop(runner, table(container), poll_s=poll_s, stopping=stopping).run()
    container.close()
    log.info("scheduler.ended")
    return 0


def _serve_metrics(container: Container) -> None:
    """This process's figures over HTTP, for Prometheus: a scheduler has no other door.

    Raises:
        ConfigError: nobody can listen there.
    """
    where = container.settings.scheduler_metrics
    if where is None:
        return
    host, _, port = where.rpartition(":")
    try:
        address = host.removeprefix("[").removesuffix("]")  # IPv6 wears brackets beside a port
        start_http_server(int(port), addr=address, registry=container.metrics.registry)
    except OSError as error:
        takes = f"an address of this machine that is free ({error.strerror})"
        raise ConfigError("SCHEDULER_METRICS", repr(where), takes) from None


if __name__ == "__main__":
    sys.exit(main())
