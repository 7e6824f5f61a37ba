"""One process that hurries requests through the rate limit: `rate_worker URL COUNT HOW`.

Says `ready`, waits for a line, and prints one JSON object: when its requests were admitted (the
server's clock, us), and how many were denied. HOW is `atomic`, the service's own decision, or
`naive`, the same as two separate steps: look whether there is room, then count.
"""

from __future__ import annotations

import json
import sys

from app.coordination.client import ScriptClient, from_url
from app.coordination.rate_limit import RedisRates
from app.coordination.rates import DecidedBy, Decision, Limit
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics

AMOUNT, WINDOW_MS = 100, 2_000
TIGHT = Limit("two seconds", AMOUNT, WINDOW_MS)
WIDE = Limit("hour", 1_000_000, 3_600_000)
IDENTITY = "account:one"


def rates_on(url: str) -> RedisRates:
    topology, options = from_url(url)
    client = ScriptClient(
        purpose="limiter", topology=topology, options=options, timeout_s=10, metrics=Metrics()
    )
    return RedisRates(client, ScriptRegistry.from_folder())


def naive(rates: RedisRates) -> Decision:
    looked = rates.admit(IDENTITY, [TIGHT._replace(cost=0)])
    if looked.standings[0].remaining < 1:
        return looked._replace(admitted=False)
    return rates.admit(IDENTITY, [TIGHT._replace(amount=1_000_000)])


def main(url: str, count: int, how: str) -> None:
    rates = rates_on(url)
    rates.admit("warm", [TIGHT])
    print("ready", flush=True)
    sys.stdin.readline()
    admitted = []
    for _ in range(count):
        decision = naive(rates) if how == "naive" else rates.admit(IDENTITY, [TIGHT, WIDE])
        assert decision.by is DecidedBy.SERVER
        if decision.admitted:
            admitted.append(decision.standings[0].at_us)
    print(json.dumps({"admitted": admitted, "denied": count - len(admitted)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
