"""Scheduled jobs: is every slot committed once, whatever fails, and when is a dead run taken up?

`python -m benchmarks.cron_guarantee --json`. Five schedulers whose clocks are up to 90 s apart, a
slot every second, and one fault after the other: schedulers killed and stopped past their lease,
all of them stopped past the grace, Redis killed, flushed, failed over to a replica that lost
writes. The verdict is that of PostgreSQL's triggers (`tests.support.cron_evidence`); a take-over is
from the dead run's last heartbeat to the next attempt, its lease of 1 s included. There is no peer:
this is a count.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.measuring import main, versions
from tests.support.cron_trial import GRACE_S, SKEWS_S, TTL_S, plan, run, started
from tests.support.postgres import PostgresServer

SLOTS, SEED = 200, 20


def measure(slots: int = SLOTS, seed: int = SEED) -> dict[str, Any]:
    faults = plan(slots, seed=seed)
    with (
        tempfile.TemporaryDirectory() as name,
        PostgresServer.start(Path(name) / "postgresql") as server,
        started(server.create_database("trial"), Path(name)) as trial,
    ):
        verdict = run(trial, slots, faults)
        injected = dict(sorted(trial.faults.items()))
    assert Counter(injected) == Counter(faults)
    return {
        "slots": verdict.slots,
        "committed_once": verdict.committed_once,
        "missed_by_policy": verdict.missed,
        "duplicates": verdict.duplicates,
        "tasks_marked_twice": verdict.marked_twice,
        "faults_found": verdict.faults_found(),
        "takeovers": len(verdict.takeovers_s),
        "takeover_p50_s": verdict.takeover_s(0.5),
        "takeover_p99_s": verdict.takeover_s(0.99),
        "faults_injected": injected,
        "schedulers": len(SKEWS_S),
        "clocks_apart_s": max(SKEWS_S) - min(SKEWS_S),
        "ttl_s": TTL_S,
        "grace_s": GRACE_S,
        "versions": versions("sqlalchemy", "psycopg", "redis", "schedule"),
    }


if __name__ == "__main__":
    main(__doc__ or "", measure, slots=SLOTS, seed=SEED)
