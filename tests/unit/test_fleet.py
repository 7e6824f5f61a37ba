"""How many processes are alive, as each of them learns it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from app.coordination import fleet as module
from app.coordination import keys
from app.coordination.absent import NoRedis
from app.coordination.breaker import Breaker
from app.coordination.client import ScriptClient, from_url
from app.coordination.fleet import Fleet
from app.coordination.scripts import Call
from app.metrics import Metrics
from tests.support.proxy import Proxy
from tests.support.rate_place import SCRIPTS
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

TTL_MS = 1_000
Joining = Callable[..., Fleet]


@pytest.fixture(autouse=True)
def short_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    monkeypatch.setattr(module, "_TTL_MS", TTL_MS)


@pytest.fixture
def raw(valkey: Valkey) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def client_of(url: str, kind: type[ScriptClient] = ScriptClient) -> ScriptClient:
    topology, options = from_url(url)
    return kind(
        purpose="limiter",
        topology=topology,
        options=options,
        timeout_s=5,
        metrics=Metrics(),
        breaker=Breaker(failures=1_000),
    )


@pytest.fixture
def joining(valkey: Valkey) -> Iterator[Joining]:
    """A process that has joined; all of them end with the test."""
    fleets: list[Fleet] = []

    def join(identity: str, url: str = valkey.url) -> Fleet:
        fleets.append(Fleet(client_of(url), SCRIPTS, identity=identity))
        fleets[-1].join()
        return fleets[-1]

    yield join
    valkey.thaw()
    for each in fleets:
        each.leave()


def all_see(fleets: list[Fleet], size: int) -> None:
    eventually(lambda: {each.size for each in fleets} == {size}, what=f"all to see {size}")


def beats(raw: redis.Redis) -> int:
    return int(raw.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def beating() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fleet"]


def test_every_process_learns_how_many_there_are(joining: Joining) -> None:
    fleets = [joining(f"host:{number}") for number in range(3)]
    all_see(fleets, 3)


def test_one_that_leaves_is_missed_at_once_and_beats_no_more(
    joining: Joining, raw: redis.Redis
) -> None:
    first, second, third = fleets = [joining(f"host:{number}") for number in range(3)]
    all_see(fleets, 3)
    third.leave()
    assert set(raw.zrange(keys.FLEET, 0, -1)) == {"host:0", "host:1"}
    all_see([first, second], 2)
    second.leave()
    all_see([first], 1)
    seen = beats(raw)
    eventually(lambda: beats(raw) > seen + 5, what="the first one's next beats")
    assert raw.zrange(keys.FLEET, 0, -1) == ["host:0"]


def test_a_dead_one_drops_out_when_its_time_is_over(
    joining: Joining, valkey_proxy: Proxy, raw: redis.Redis
) -> None:
    alive, dead = joining("alive"), joining("dead", valkey_proxy.url)
    all_see([alive, dead], 2)
    valkey_proxy.cut()
    until_ms = float(raw.zscore(keys.FLEET, "dead") or 0)
    all_see([alive], 1)
    seconds, microseconds = raw.time()
    assert seconds * 1_000 + microseconds // 1_000 >= until_ms
    assert dead.size == 2  # it hears nothing, and keeps to what it heard last


def test_while_redis_is_lost_the_last_known_size_stays(joining: Joining, valkey: Valkey) -> None:
    fleets = [joining(f"host:{number}") for number in range(2)]
    all_see(fleets, 2)
    valkey.kill()
    for each in fleets:
        eventually(partial(_lost_three_beats, each), what="beats without an answer")
    assert [each.size for each in fleets] == [2, 2]
    valkey.restart()
    third = joining("host:2")
    all_see([*fleets, third], 3)


def _lost_three_beats(fleet: Fleet) -> bool:
    assert isinstance(fleet._client, ScriptClient)
    registry = fleet._client._metrics.registry
    labels = {"purpose": "limiter", "kind": "connection"}
    return (registry.get_sample_value("taskflow_redis_failures_total", labels) or 0) >= 3


def test_nothing_beats_before_it_has_joined_and_once_after(
    valkey: Valkey, raw: redis.Redis
) -> None:
    before = len(beating())
    fleet, beaten = Fleet(client_of(valkey.url), SCRIPTS, identity="host:1"), beats(raw)
    assert (len(beating()), fleet.size, beats(raw)) == (before, 1, beaten)
    for _ in range(3):
        fleet.join()
    assert len(beating()) == before + 1
    eventually(lambda: raw.zcard(keys.FLEET) == 1, what="the first beat")
    fleet.leave()
    assert raw.zcard(keys.FLEET) == 0


@pytest.mark.parametrize("joined", [True, False])
def test_who_has_left_says_so_once_and_never_joins_again(
    valkey: Valkey, raw: redis.Redis, joined: bool
) -> None:
    fleet = Fleet(client_of(valkey.url), SCRIPTS, identity="host:1")
    if joined:
        fleet.join()
        eventually(lambda: raw.zcard(keys.FLEET) == 1, what="the first beat")
    fleet.leave()
    beaten, threads = beats(raw), beating()
    fleet.leave()
    fleet.join()
    assert (beats(raw), beating(), raw.zcard(keys.FLEET)) == (beaten, threads, 0)


class HeldBack(ScriptClient):
    """Its first beat is on its way until `arrives`."""

    sent, arrives = threading.Event(), threading.Event()

    def call(self, call: Call) -> Any:
        if call.args[-1] != 0:
            self.sent.set()
            assert self.arrives.wait(10)
        return super().call(call)


def test_a_beat_on_its_way_does_not_undo_the_leaving(valkey: Valkey, raw: redis.Redis) -> None:
    raw.script_load(SCRIPTS["fleet_beat.v1"].source)
    fleet, beaten = Fleet(client_of(valkey.url, HeldBack), SCRIPTS, identity="host:1"), beats(raw)
    fleet.join()
    assert HeldBack.sent.wait(10)
    leaving = threading.Thread(target=fleet.leave)
    leaving.start()
    leaving.join(0.1)  # time to leave too early, if it could
    HeldBack.arrives.set()
    leaving.join()
    eventually(lambda: beats(raw) - beaten == 2, what="the beat and the leaving")
    assert raw.zrange(keys.FLEET, 0, -1) == []


def test_without_redis_a_process_counts_itself() -> None:
    fleet = Fleet(NoRedis("limiter"), SCRIPTS, identity="host:1")
    fleet.join()
    fleet.leave()
    assert fleet.size == 1
