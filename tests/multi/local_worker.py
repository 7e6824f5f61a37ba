"""One process that counts by its share while Redis is lost: `local_worker URL HOW PROCESSES`.

Says `joined` once it knows of PROCESSES processes, waits for a line, asks for admission without a
pause for two windows and a half, and prints one JSON list: when (us of the machine's monotonic
clock) it admitted. HOW is `shared`, as the service does, or `alone`, without knowing of the others.
"""

from __future__ import annotations

import json
import sys
import time

from app.coordination.client import ScriptClient, from_url
from app.coordination.fleet import Fleet
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.rates import DecidedBy, Limit
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics
from tests.support.waiting import eventually

AMOUNT, WINDOW_MS = 103, 1_000
LIMIT = Limit("second", AMOUNT, WINDOW_MS)
ASKS_S, PAUSE_S = 2.5 * WINDOW_MS / 1_000, 0.001


def main(url: str, how: str, processes: int) -> None:
    topology, options = from_url(url)
    client = ScriptClient(
        purpose="limiter", topology=topology, options=options, timeout_s=10, metrics=Metrics()
    )
    scripts = ScriptRegistry.from_folder()
    fleet = Fleet(client, scripts, identity=f"worker:{time.monotonic_ns()}")
    size = (lambda: 1) if how == "alone" else (lambda: fleet.size)
    rates = RedisRates(client, scripts, on_loss=OnLoss.LOCAL, fleet_size=size)
    fleet.join()
    eventually(lambda: fleet.size == processes, timeout_s=30, what="the whole fleet")
    print("joined", flush=True)
    sys.stdin.readline()
    print(json.dumps(admitted(rates)))


def admitted(rates: RedisRates) -> list[int]:
    times, until = [], time.monotonic() + ASKS_S
    while time.monotonic() < until:
        decision = rates.admit("account:one", [LIMIT])
        assert decision.by is DecidedBy.PROCESS
        if decision.admitted:
            times.append(decision.standings[0].at_us)
        time.sleep(PAUSE_S)
    return times


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
