"""`python -m app.scheduler`: one scheduler process. Run as many as you like."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import structlog

from app import bootstrap
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
    except (ConfigError, ScriptContractError) as error:
        print(f"TaskFlow cannot start: {error}", file=sys.stderr)
        return 2
    log = structlog.get_logger("app.scheduler")
    container.reach_redis()
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


if __name__ == "__main__":
    sys.exit(main())
