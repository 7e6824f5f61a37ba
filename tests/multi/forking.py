"""A process that takes locks, forks, and goes on taking them beside its child.

    python -m tests.multi.forking <redis URL> [shared]

Prints one JSON list: what went wrong in the parent and in the child. `shared` takes the protection
out: connections and threads are then the parent's in the child too.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from app.coordination import forks
from app.errors import TaskFlowError
from tests.support.locks import LockBench
from tests.support.waiting import eventually

TIMES = 300
TTL_MS = 400
HANGS_S = 8  # a child that takes longer never ends


def main(url: str, *planted: str) -> None:
    if planted:
        vars(forks)["in_child"] = lambda _part: None
    bench = LockBench(url, timeout_s=2.0)
    with bench.locks.hold("before", ttl_ms=TTL_MS, on_loss="closed"):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(HANGS_S)
        faults = _faults(bench, "child" if child == 0 else "parent")
        if child == 0:
            os.write(write, json.dumps(faults).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            faults += json.loads(told.read() or '["the child said nothing"]')
        os.waitpid(child, 0)
    print(json.dumps(faults))


def _faults(bench: LockBench, who: str) -> list[str]:
    """Its own lock is never another's, and is renewed while it is held."""
    faults = []
    try:
        for _ in range(TIMES):
            lease = bench.locks.acquire(who, ttl_ms=60_000)
            if not bench.locks.release(lease):
                faults.append(f"{who}: released what was not its own")
        with bench.locks.hold(f"{who}-works", ttl_ms=TTL_MS, on_loss="closed") as lease:
            until = lease.until
            eventually(lambda: lease.until > until, timeout_s=2, what="a renewal")
    except (TaskFlowError, AssertionError, ValueError, TypeError) as error:
        faults.append(f"{who}: {error!r}")
    return faults


if __name__ == "__main__":
    main(*sys.argv[1:])
