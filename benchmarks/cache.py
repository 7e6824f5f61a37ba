"""The cache: the price of a hit, and of making a million entries stale; is anything read too old?

`python -m benchmarks.cache --json`. The peers are Flask-Caching's Redis backend, for reading one
body, and cashews, for invalidating a tag; all run in the same rounds against the same Valkey. Of
the stampede and of the stale reads there is no peer: they are counts, over processes of their own.
A read is stale if it returns less than had been acknowledged before it began; the control is the
same with writers that tell the cache nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import redis

from app.coordination import keys
from app.coordination.cache_calls import meta_ttl_ms
from app.coordination.local_cache import current_visit
from app.coordination.rate_limit import RedisRates
from app.coordination.rates import Limit
from app.coordination.scripts import Call
from app.coordination.stale import Stale
from benchmarks.cache_peers import LIVES_S, CashewsTag, Ours, flask_caching_get
from benchmarks.measuring import interleaved, main, percentiles_us, ratio, versions
from tests.support.caches import SCRIPTS, visiting
from tests.support.child import ROOT
from tests.support.redis_servers import Valkey

ROUNDS, CALLS = 300, 5
TAGGED, TAG_ROUNDS = 20_000, 5
FEW, MANY = 1_000, 1_000_000
MISSES, PROCESSES = 1_000, 4
COUNT_S, CONTROL_S = 5, 1
_PIPELINE = 1_000
_SAMPLE = 500
_FILL = """
for n = ARGV[1], ARGV[2] do
  local entry = KEYS[1] .. string.format('%d', n)
  redis.call('HSET', entry, 'epoch', ARGV[3], 's', ARGV[4], 'tags', 'tag', 'v', '=value')
  redis.call('PEXPIRE', entry, ARGV[5])
end
"""


def measure(entries: int = MANY) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, Valkey.start(Path(folder)) as server:
        ours = Ours.at(server.url)
        with redis.Redis.from_url(server.url) as raw:
            found = {
                **_round_trips(raw, ours),
                **_reads(server.url, ours),
                **_invalidations(raw, server.url, ours),
                **_growth(raw, ours, entries),
                **_stampede(raw, server.url),
                **_stale_reads(raw, server.url),
                "versions": {
                    "valkey": raw.info("server").get("valkey_version", ""),
                    **versions("redis", "hiredis", "flask-caching", "cachelib", "cashews"),
                },
            }
        ours.client.close()
        return found


def _round_trips(raw: redis.Redis, ours: Ours) -> dict[str, int]:
    """Reads that the server did: a pipeline is one. L1's are beside those of the limits."""
    rates = RedisRates(ours.client, SCRIPTS, beside=current_visit)
    limit = [Limit("reads/1000000/1/hour", 1_000_000, 3_600_000)]

    def l2_hit() -> None:
        ours.cache.fetch("trips", "body", tags=["tag"], load=_never)

    def limits_alone() -> None:
        rates.admit("trips", limit)

    def limits_and_l1_hit() -> None:
        with visiting(ours.cache.local.visit(["trips"])):
            rates.admit("trips", limit)
            ours.cache.fetch("trips", "body", tags=["tag"], load=_never)

    ours.cache.fetch("trips", "body", tags=["tag"], load=_body)
    limits_and_l1_hit()  # takes it into L1
    trips = {each: _reads_of(raw, each) for each in (l2_hit, limits_alone, limits_and_l1_hit)}
    return {
        "round_trips_l2_hit": trips[l2_hit],
        "l1_extra_round_trips": trips[limits_and_l1_hit] - trips[limits_alone],
    }


def _reads_of(raw: redis.Redis, work: Any) -> int:
    before = int(raw.info("stats")["total_reads_processed"])
    work()
    after = int(raw.info("stats")["total_reads_processed"])
    return after - before - 1  # the second INFO is a read too


def _reads(url: str, ours: Ours) -> dict[str, Any]:
    """One body of twenty tasks, out of Redis; and out of L1, with the round trip that judges it."""
    body = _body()
    ours.cache.fetch("reads", "body", tags=["tag"], load=lambda: body, ttl_s=LIVES_S)
    theirs = flask_caching_get(url, body)
    assert theirs() == body

    def l1_hit() -> None:
        visit = ours.cache.local.visit(["reads"])
        ours.cache.ask(visit)
        with visiting(visit):
            ours.cache.fetch("reads", "body", tags=["tag"], load=lambda: body)

    works = {
        "ours_get": lambda: ours.cache.fetch("reads", "body", tags=["tag"], load=lambda: body),
        "ours_l1_get_with_its_judge": l1_hit,
        "flask_caching_get": theirs,
    }
    seconds = interleaved(works, rounds=ROUNDS, calls=CALLS)
    return {
        "ratio_flask_caching_get": ratio(seconds, "flask_caching_get", "ours_get", calls=CALLS),
        "body_bytes": len(body),
        **{name: percentiles_us(taken) for name, taken in seconds.items()},
    }


def _invalidations(raw: redis.Redis, url: str, ours: Ours) -> dict[str, Any]:
    """A tag of 20,000 entries, filled anew for each round: ours, then cashews'."""
    cashews = CashewsTag(url)
    taken: dict[str, list[float]] = {"ours": [], "cashews": []}
    for number in range(TAG_ROUNDS):
        namespace = f"tagged:{number}"
        _fill(raw, ours, namespace, TAGGED)
        assert _hits(ours, namespace, TAGGED) == _SAMPLE
        taken["ours"].append(_seconds(lambda at=namespace: _invalidate(ours, at)))
        assert _hits(ours, namespace, TAGGED) == 0
        cashews.fill(TAGGED)
        assert cashews.holds(TAGGED - 1)
        taken["cashews"].append(_seconds(cashews.invalidate))
        assert not cashews.holds(TAGGED - 1)
    cashews.close()
    return {
        "ratio_cashews_invalidate_20000": ratio(taken, "cashews", "ours", calls=1),
        "ours_invalidate_20000": percentiles_us(taken["ours"]),
        "cashews_invalidate_20000": percentiles_us(taken["cashews"]),
    }


def _growth(raw: redis.Redis, ours: Ours, entries: int) -> dict[str, Any]:
    """The same invalidation where few and where many entries carry the tag."""
    raw.flushdb()
    sizes = {"few": FEW, "many": entries}
    for name, size in sizes.items():
        _fill(raw, ours, name, size)
        assert _hits(ours, name, size) == _SAMPLE
    stored = raw.dbsize()
    works = {name: lambda at=name: _invalidate(ours, at) for name in sizes}
    seconds = interleaved(works, rounds=ROUNDS, calls=CALLS)
    assert all(_hits(ours, name, size) == 0 for name, size in sizes.items())
    raw.flushdb()
    return {
        "invalidate_growth_1k_to_1m": ratio(seconds, "many", "few", calls=CALLS),
        "entries": entries,
        "keys_stored": stored,
        **{f"invalidate_{name}": percentiles_us(taken) for name, taken in seconds.items()},
    }


def _stampede(raw: redis.Redis, url: str) -> dict[str, Any]:
    """As many askers at once of one key that nobody has, in four processes."""
    raw.flushdb()
    told = _together("miss", url, str(MISSES // PROCESSES))
    seconds = [each for one in told for each in one["seconds"]]
    return {
        "stampede_loads": sum(one["loads"] for one in told),
        "stampede_misses": len(seconds),
        "stampede_wait": percentiles_us(seconds),
    }


def _stale_reads(raw: redis.Redis, url: str) -> dict[str, Any]:
    raw.flushdb()
    told = _together("count", url, str(COUNT_S), "1")
    raw.flushdb()
    control = _together("count", url, str(CONTROL_S), "0")
    seconds = [each for one in told for each in one["seconds"]]
    return {
        "stale_reads": sum(one["stale"] for one in told),
        "reads_checked": len(seconds),
        "writes_meanwhile": sum(one["writes"] for one in told),
        "contended_read": percentiles_us(seconds),
        "stale_reads_of_the_control": sum(one["stale"] for one in control),
    }


def _together(*arguments: str) -> list[dict[str, Any]]:
    """What as many processes say that begin at once."""
    command = [sys.executable, "-m", "benchmarks.workers.cache", *arguments]
    pipe = subprocess.PIPE
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]


def _fill(raw: redis.Redis, ours: Ours, namespace: str, entries: int) -> None:
    """Write that many entries with one tag, in the form in which the store script does."""
    names = keys.cache(namespace, "")
    sync = Call(
        SCRIPTS["cache_sync.v2"], [names.meta, names.tags], ["", 0, 0, "e", meta_ttl_ms(LIVES_S)]
    )
    epoch, clock = ours.client.call(sync)[:2]
    fill = raw.register_script(_FILL)
    prefix = names.entry.removesuffix(keys.safe(""))
    for at in range(0, entries, _PIPELINE):
        fill([prefix], [at, min(at + _PIPELINE, entries) - 1, epoch, clock, 1000 * LIVES_S])


def _hits(ours: Ours, namespace: str, entries: int) -> int:
    """How many of a sample of `_fill`'s entries are still read."""
    read = SCRIPTS["cache_read.v1"]
    numbers = range(0, entries, entries // _SAMPLE)[:_SAMPLE]
    calls = [
        Call(read, keys.cache(namespace, f"{n}"), ["look", 1, "other", meta_ttl_ms(LIVES_S)])
        for n in numbers
    ]
    return sum(reply[0] for reply in ours.client.call_many(calls))


def _invalidate(ours: Ours, namespace: str) -> None:
    change = Stale((namespace,), ("tag",))
    assert ours.cache.invalidate([change])[change] is not None


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _body() -> bytes:
    """Twenty tasks, about as a list answers them."""
    tasks = [
        {
            "id": f"0198f0c2-0000-7000-8000-{number:012d}",
            "project_id": "0198f0c2-0000-7000-8000-000000000000",
            "title": f"Task number {number}",
            "description": "What is to be done, in a sentence or two. " * 3,
            "status": "open",
            "priority": "high",
            "labels": ["home", "money"],
            "due_at": f"2031-01-{number % 28 + 1:02d}T12:00:00+00:00",
            "created_at": "2030-01-01T12:00:00.000000+00:00",
            "version": 1,
        }
        for number in range(20)
    ]
    return orjson.dumps({"items": tasks, "next_cursor": None})


def _never() -> bytes:
    raise AssertionError("it is cached")


if __name__ == "__main__":
    main(__doc__ or "", measure, entries=MANY)
