"""Rate limits: the price of three limits in one call, and whether the limit is ever exceeded.

`python -m benchmarks.limits --json`. The peers are Flask-Limiter's own way with Redis: for three
moving windows and headers, three hits and one window statistic; and throttled-py's sliding window
of one limit, against one limit of ours. The floor is the cheapest script there can be, through
redis-py. All run in the same rounds against the same Valkey.
"""

from __future__ import annotations

import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis

from app.coordination import keys
from app.coordination.client import ScriptClient, from_url
from app.coordination.deny_memo import DenyMemo
from app.coordination.rate_limit import RedisRates
from app.coordination.rates import Limit
from app.coordination.scripts import Call, ScriptRegistry
from app.metrics import Metrics
from benchmarks.limit_peers import half_full_stock, half_full_throttled_py
from benchmarks.measuring import interleaved, main, percentiles_us, ratio, versions
from tests.support.redis_servers import Valkey

ROUNDS, CALLS = 200, 5
TRIES, WAITING = 100_000, 1_000
AMOUNTS = {"minute": (2_000, 60), "hour": (5_000, 3_600), "day": (10_000, 86_400)}


def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Valkey.start(Path(folder)) as server:
        raw = redis.Redis.from_url(server.url)
        scripts = ScriptRegistry.from_folder()
        client = _client(server.url)
        rates = RedisRates(client, scripts)
        found = {
            "round_trips_3_limits": _round_trips(raw, rates),
            **_times(server.url, raw, rates),
            **_over_admitted(client, scripts),
            **_denials(rates),
            **_waits(rates),
            "bytes_per_key_5000_per_hour": _bytes_of_a_full_key(raw, client, scripts),
            "versions": {
                "valkey": raw.info("server").get("valkey_version", raw.info()["redis_version"]),
                **versions("redis", "hiredis", "limits", "flask-limiter", "throttled-py"),
            },
        }
        client.close()
        raw.close()
        return found


def _round_trips(raw: redis.Redis, rates: RedisRates) -> int:
    """Reads that the server did for one decision of three limits: a pipeline is one."""
    rates.admit("warm", _limits())
    before = int(raw.info("stats")["total_reads_processed"])
    rates.admit("counted", _limits())
    after = int(raw.info("stats")["total_reads_processed"])
    return after - before - 1  # the second INFO is a read too


def _times(url: str, raw: redis.Redis, rates: RedisRates) -> dict[str, Any]:
    limits = _limits()
    alone = limits[1:2]
    for limit in limits:
        for _ in range(limit.amount // 2):
            rates.admit("half", [limit])
    rates.admit("alone", [alone[0]._replace(cost=alone[0].amount // 2)])
    trivial = raw.script_load("return 1")
    seconds = interleaved(
        {
            "ours": lambda: rates.admit("half", limits),
            "stock": half_full_stock(url, limits),
            "floor": lambda: raw.evalsha(trivial, 1, "tf:1:{half}"),
            "ours_1_limit": lambda: rates.admit("alone", alone),
            "throttled_py": half_full_throttled_py(url, alone[0]),
        },
        rounds=ROUNDS,
        calls=CALLS,
    )
    return {
        "ratio_stock_3_limits": ratio(seconds, "stock", "ours", calls=CALLS),
        "ratio_floor": ratio(seconds, "ours", "floor", calls=CALLS),
        "throttled_py_ratio": ratio(seconds, "throttled_py", "ours_1_limit", calls=CALLS),
        **{name: percentiles_us(taken) for name, taken in seconds.items()},
    }


def _over_admitted(client: ScriptClient, scripts: ScriptRegistry) -> dict[str, int]:
    """Bursts and trickles of 100,000 tries at limits small and large; hits beyond the limit."""
    tries = over = admitted = 0
    dice = random.Random(20)
    for amount, window_ms in ((10, 50), (64, 200), (100, 500), (1_000, 1_000)):
        key = keys.rate(f"adversary:{amount}", "limit")
        call = Call(scripts["rate_admit.v2"], [key], [amount, window_ms, 1, 0])
        times: list[int] = []
        for _ in range(TRIES // 4 // 50):
            for burst in _split(50, dice):
                replies = client.call_many([call] * burst)
                tries += burst
                times += [reply[1] for reply in replies if reply[0]]
        assert all(earlier <= later for earlier, later in pairwise(times))
        over += sum(
            later - earlier < window_ms * 1_000
            for earlier, later in zip(times, times[amount:], strict=False)
        )
        admitted += len(times)
    return {"tries": tries, "admitted": admitted, "over_admitted": over}


def _denials(rates: RedisRates) -> dict[str, float]:
    """Denials a second with the memo and without, interleaved."""
    limit = [Limit("reads/1/1/hour", 1, 3_600_000)]
    memo = DenyMemo(rates)
    for who in ("plain", "remembered"):
        rates.admit(who, limit)
    works = {
        "plain": lambda: rates.admit("plain", limit),
        "remembered": lambda: memo.admit("remembered", limit),
    }
    seconds = interleaved(works, rounds=ROUNDS, calls=CALLS)
    return {"deny_memo_ratio": ratio(seconds, "plain", "remembered", calls=CALLS)}


def _waits(rates: RedisRates) -> dict[str, float]:
    """Clients that were denied wait as long as they were told: the share that is then admitted."""
    limit = [Limit("reads/2/1/second", 2, 1_000)]
    waiting: list[tuple[float, str]] = []
    for number in range(WAITING):
        who = f"waits:{number}"
        while (told := rates.admit(who, limit)).admitted:
            pass
        waiting.append((time.monotonic() + told.retry_after_s, who))
    admitted = 0
    for until, who in waiting:
        time.sleep(max(0.0, until - time.monotonic()))
        admitted += rates.admit(who, limit).admitted
    return {"waiting_clients": WAITING, "retry_after_truthful": admitted / WAITING}


def _bytes_of_a_full_key(raw: redis.Redis, client: ScriptClient, scripts: ScriptRegistry) -> int:
    """5,000 hits spread over a whole window, which is 3.6 s here: entries are of fixed width."""
    key = keys.rate("account:0198f0c2-0000-7000-8000-000000000000", "reads/5000/1/hour")
    call = Call(scripts["rate_admit.v2"], [key], [5_000, 3_600, 1, 0])
    for _ in range(100):
        client.call_many([call] * 50)
        time.sleep(0.0355)
    return int(raw.memory_usage(key, samples=0) or 0)


def _split(total: int, dice: random.Random) -> list[int]:
    """`total` as bursts of random sizes, one by one as often as all at once."""
    shape = dice.choice(["single", "half", "whole"])
    sizes = {"single": [1] * total, "half": [total // 2, total - total // 2], "whole": [total]}
    return sizes[shape]


def _limits() -> list[Limit]:
    return [
        Limit(f"reads/{name}", amount, window * 1_000) for name, (amount, window) in AMOUNTS.items()
    ]


def _client(url: str) -> ScriptClient:
    topology, options = from_url(url)
    return ScriptClient(
        purpose="limiter", topology=topology, options=options, timeout_s=5, metrics=Metrics()
    )


if __name__ == "__main__":
    main(__doc__ or "", measure)
