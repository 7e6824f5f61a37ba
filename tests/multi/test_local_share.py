"""While Redis is lost, several processes together keep to the limit, each by its share."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.multi.local_worker import AMOUNT, WINDOW_MS
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey

PROCESSES = 4


def test_processes_that_know_of_each_other_keep_to_the_limit_together(valkey: Valkey) -> None:
    most = _most_in_a_window(_admitted(valkey, "shared"))
    assert most == AMOUNT // PROCESSES * PROCESSES


def test_processes_that_know_nobody_admit_the_limit_each(valkey: Valkey) -> None:
    """The control of the test above."""
    assert _most_in_a_window(_admitted(valkey, "alone")) > 3 * AMOUNT


def _admitted(valkey: Valkey, how: str) -> list[int]:
    """When all processes together admitted, once they know each other and Valkey is killed."""
    command = [sys.executable, "-m", "tests.multi.local_worker", valkey.url, how, str(PROCESSES)]
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "joined\n"
    valkey.kill()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES
    return sorted(at for each in told for at in each)


def _most_in_a_window(admitted: list[int]) -> int:
    """The most admissions in the window that ends with any of them."""
    first, most = 0, 0
    for last, at in enumerate(admitted):
        while admitted[first] <= at - WINDOW_MS * 1_000:
            first += 1
        most = max(most, last - first + 1)
    return most
