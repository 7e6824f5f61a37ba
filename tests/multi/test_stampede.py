"""A thousand callers of four processes miss one key at once: one of them loads, for all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from app.coordination import keys
from tests.multi.stampede_worker import KEY, LOADS, NAMESPACE
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey

PROCESSES, THREADS = 4, 250
ALL = PROCESSES * THREADS
LEASE_MS = 2_000

Worker = subprocess.Popen[str]


@contextmanager
def workers(valkey: Valkey, count: int, threads: int, how: str) -> Iterator[list[Worker]]:
    """So many processes that wait for a word."""
    command = [sys.executable, "-m", "tests.multi.stampede_worker", valkey.url]
    command += [str(threads), str(ALL), how]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        for each in started:
            assert says(each) == "ready"
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def says(worker: Worker) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def go(started: Sequence[Worker]) -> None:
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()


def told(started: Sequence[Worker]) -> tuple[Counter[str], Counter[str]]:
    """What all of them read, and what their caches saw."""
    found: list[dict[str, Any]] = [json.loads(says(each)) for each in started]
    answers = sum((Counter(each["answers"]) for each in found), Counter[str]())
    return answers, sum((Counter(each["events"]) for each in found), Counter[str]())


def led_once(events: Counter[str]) -> bool:
    """Whether one loaded and stored, and all others had it from Redis or from a thread beside."""
    others = events.pop("hit_l2", 0) + events.pop("shared", 0)
    return (events, others) == (Counter(miss=1, stored=1), ALL - 1)


def loads(valkey: Valkey) -> int:
    with valkey.client() as raw:
        return int(raw.get(LOADS) or 0)


def test_a_thousand_misses_of_four_processes_at_once_are_one_load(valkey: Valkey) -> None:
    with workers(valkey, PROCESSES, THREADS, "coherent") as started:
        go(started)
        answers, events = told(started)
    assert (answers, loads(valkey)) == ({"load 1": ALL}, 1)
    assert led_once(events)


def test_without_the_fill_lease_many_would_have_loaded(valkey: Valkey) -> None:
    """The control of the test above."""
    with workers(valkey, PROCESSES, THREADS, "unled") as started:
        go(started)
        told(started)
    assert loads(valkey) > 1


def test_the_loader_killed_one_other_loads_when_its_lease_is_over(valkey: Valkey) -> None:
    with (
        workers(valkey, 1, 1, "stuck") as [victim],
        workers(valkey, PROCESSES, THREADS, "coherent") as started,
    ):
        go([victim])
        assert says(victim) == "loading"
        with valkey.client() as raw:
            left_ms = raw.pttl(keys.cache(NAMESPACE, KEY).fill)
        go(started)
        victim.kill()
        answers, events = told(started)
    assert 0 < left_ms <= LEASE_MS
    assert (answers, loads(valkey)) == ({"load 2": ALL}, 2)
    assert led_once(events)
