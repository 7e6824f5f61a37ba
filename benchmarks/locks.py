"""Locks: the price of one, how soon it changes hands, and how soon a dead holder's passes on.

`python -m benchmarks.locks --json`. The peer is redis-py's own `Lock`, with its own defaults; the
floor is two trivial scripts through redis-py, which is what taking and giving back costs at least.
All of them run in the same rounds against the same Valkey. Hand-overs are from one process to
another: the holder notes the time before it releases, the waiter after it has acquired, by the
clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis

from app.coordination import keys
from benchmarks.lock_peers import NAME, PEERS, Take, ours, redis_py
from benchmarks.measuring import interleaved, main, percentiles_us, ratio, versions
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey

ROUNDS, CALLS = 300, 5
HANDOFF_ROUNDS, HANDOFFS, TAKEOVERS = 5, 12, 20
SHORT_TTL_MS = 300


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Valkey.start(Path(folder)) as server:
        with redis.Redis.from_url(server.url) as raw:
            version = raw.info("server").get("valkey_version", "")
            uncontended = _uncontended(raw, server.url)
        handoffs = _handoffs(server.url)
        return {
            **uncontended,
            **handoffs,
            **_takeovers(server.url),
            "versions": {"valkey": version, **versions("redis", "hiredis")},
        }


def _uncontended(raw: redis.Redis, url: str) -> dict[str, Any]:
    take_ours, take_theirs = ours(url), redis_py(url)
    trivial = raw.script_load("return 1")

    def floor() -> None:
        raw.evalsha(trivial, 1, "floor")
        raw.evalsha(trivial, 1, "floor")

    works = {"ours": _once(take_ours), "redis_py": _once(take_theirs), "floor": floor}
    seconds = interleaved(works, rounds=ROUNDS, calls=CALLS)
    return {
        "ratio_redis_py_acquire_release": ratio(seconds, "redis_py", "ours", calls=CALLS),
        "ratio_floor": ratio(seconds, "ours", "floor", calls=CALLS),
        **{name: percentiles_us(taken) for name, taken in seconds.items()},
    }


def _once(take: Take) -> Callable[[], None]:
    def work() -> None:
        take()()

    return work


def _handoffs(url: str) -> dict[str, Any]:
    """Two processes that pass the lock to and fro, of each kind in turn."""
    taken: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for _ in range(HANDOFF_ROUNDS):
        for peer in PEERS:
            taken[peer] += _passed_to_and_fro(peer, url, HANDOFFS)
    medians = {kind: statistics.median(values) for kind, values in taken.items()}
    ordered = sorted(taken["ours"])
    return {
        "handoffs": {kind: len(values) for kind, values in taken.items()},
        "handoff_p50_ms": round(medians["ours"], 3),
        "handoff_p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "handoff_redis_py_p50_ms": round(medians["redis_py"], 3),
        "ratio_redis_py_handoff": round(medians["redis_py"] / medians["ours"], 1),
    }


def _passed_to_and_fro(peer: str, url: str, times: int) -> list[float]:
    """Milliseconds between a release in one process and the acquisition in the other."""
    workers = [_worker("pass", peer, url, str(times)) for _ in range(2)]
    lines = [line for worker in workers for line in _told(worker)]
    turns = sorted(lines, key=lambda line: float(line["took"]))
    # Only real hand-overs: from one process to the other, who was waiting by then.
    return [
        (after["took"] - before["gave"]) * 1000
        for before, after in pairwise(turns)
        if before["worker"] != after["worker"] and after["asked"] < before["gave"]
    ]


def _takeovers(url: str) -> dict[str, Any]:
    """How long after the end of a killed holder's lease a waiter has the lock."""
    take = ours(url, ttl_ms=SHORT_TTL_MS)
    late_ms = []
    with redis.Redis.from_url(url) as raw:
        for _ in range(TAKEOVERS):
            holder = _worker("hold", url, str(SHORT_TTL_MS))
            assert holder.stdout is not None
            holder.stdout.readline()  # it holds the lock, and renews it
            holder.kill()
            holder.wait()
            ends = time.monotonic() + raw.pttl(keys.lock(NAME).lease) / 1000
            give_back = take()
            late_ms.append((time.monotonic() - ends) * 1000)
            give_back()
    ordered = sorted(late_ms)
    return {
        "takeovers": len(ordered),
        "takeover_after_sigkill_ms_over_ttl": round(statistics.median(ordered), 1),
        "takeover_after_sigkill_ms_over_ttl_max": round(ordered[-1], 1),
    }


def _worker(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.workers.lock", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _told(worker: subprocess.Popen[str]) -> list[dict[str, Any]]:
    said, _ = worker.communicate(timeout=300)
    assert worker.returncode == 0, worker.returncode
    return [json.loads(line) for line in said.splitlines()]


if __name__ == "__main__":
    main(__doc__ or "", measure)
