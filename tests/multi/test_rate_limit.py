"""Eight processes at one identity: never more than the limit in any window."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.multi.rate_worker import AMOUNT, IDENTITY, WIDE, WINDOW_MS, rates_on
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey

PROCESSES, REQUESTS, MANY = 8, 10_000, 400_000


@pytest.mark.parametrize("requests", [REQUESTS, pytest.param(MANY, marks=pytest.mark.soak)])
def test_eight_processes_never_get_more_than_the_limit_in_any_window(
    valkey: Valkey, requests: int
) -> None:
    admitted, denied = _hurry(valkey, requests, "atomic")
    assert len(admitted) + denied == requests
    assert len(admitted) >= AMOUNT
    assert denied > 0
    assert _excess(admitted) == 0
    # Whoever was denied by the tight limit has used up nothing of the wide one.
    (wide,) = rates_on(valkey.url).admit(IDENTITY, [WIDE._replace(cost=0)]).standings
    assert WIDE.amount - wide.remaining == len(admitted)


def test_looking_first_and_counting_then_would_have_exceeded_it(valkey: Valkey) -> None:
    """The control of the test above: the same processes without the one atomic step."""
    admitted, _ = _hurry(valkey, REQUESTS, "naive")
    assert _excess(admitted) > 0


def _hurry(valkey: Valkey, requests: int, how: str) -> tuple[list[int], int]:
    command = [sys.executable, "-m", "tests.multi.rate_worker", valkey.url]
    command += [str(requests // PROCESSES), how]
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate(timeout=600)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * PROCESSES
    admitted = sorted(at for each in told for at in each["admitted"])
    return admitted, sum(each["denied"] for each in told)


def _excess(admitted: list[int]) -> int:
    """How many admissions had `AMOUNT` others in the window that ends with them."""
    pairs = zip(admitted, admitted[AMOUNT:], strict=False)
    return sum(later - earlier < WINDOW_MS * 1_000 for earlier, later in pairs)
