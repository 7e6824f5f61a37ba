"""A majority's locks and time: hung servers, answers that come too late, blocks beyond a lease.

Durations are only ever compared with each other; what no clock can show is read off the servers'
own counts of the commands that they ran.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from app.coordination import redlock
from app.coordination.breaker import Breaker
from app.coordination.lock_debts import Debts
from app.coordination.lock_store import Granted, LockStore, PrimaryStore
from app.coordination.redlock import Redlock
from app.errors import CoordinationError
from tests.faults.conftest import Sites
from tests.support.majority import Link, Majority, Site
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

HUNG_TIMEOUT_MS = 250


def test_two_hung_servers_cost_as_little_as_one(five: Majority, site: Sites, name: str) -> None:
    one, two = _warm(site, name), _warm(site, name)
    five.servers[0].freeze()
    with_one = _seconds_of_asking(one, name)
    five.servers[1].freeze()
    assert _seconds_of_asking(two, name) < 1.5 * with_one


def test_asked_one_after_the_other_two_hung_servers_would_have_cost_twice_as_much(
    five: Majority, site: Sites, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    one, two = _warm(site, name), _warm(site, name)
    monkeypatch.setattr(Redlock, "_all", _one_after_the_other)
    five.servers[0].freeze()
    with_one = _seconds_of_asking(one, name)
    five.servers[1].freeze()
    assert _seconds_of_asking(two, name) > 1.5 * with_one


def test_once_their_breakers_are_open_hung_servers_are_not_even_asked(
    five: Majority, site: Sites, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Debts, "owe", lambda *_, **__: None)  # which asks in the background
    one = _warm(site, name)
    for client in one.clients:
        client.breaker = Breaker(failures=5, open_s=600)
    for server in five.servers[:2]:
        server.freeze()
    for _ in range(20):
        assert (one.ask(name), one.free()) == ("granted", "freed")
    for purpose in ("lock-1", "lock-2"):
        assert one.figure("redis_failures_total", purpose=purpose, kind="timeout") == 5
        assert one.figure("redis_failures_total", purpose=purpose, kind="breaker") == 35


def test_what_hung_servers_did_after_all_is_undone_by_the_release_behind_it(
    five: Majority, site: Sites, name: str
) -> None:
    one = _warm(site, name)
    for server in five.servers[:3]:
        server.freeze()
    assert one.ask(name) == "unknown"
    for server in five.servers:
        server.thaw()
    eventually(lambda: min(five.calls("evalsha")) >= 2, what="each to take and to release")
    eventually(lambda: five.held(name) == 0, what="nobody to hold it")


def test_servers_that_answer_after_the_lease_is_over_grant_nothing(
    five: Majority, links: list[Link], name: str
) -> None:
    with Site([link.url for link in links]) as slow:
        _answers_come_after_ms(links, 300)
        five.forget_calls()
        assert slow.ask(name, ttl_ms=200) == "busy"
        assert five.calls("evalsha") == [2] * 5  # each was asked, and told to release
        eventually(lambda: five.held(name) == 0, what="nobody to hold it")


def test_without_a_look_at_the_clock_they_would_have_granted_what_nobody_holds(
    five: Majority, links: list[Link], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(redlock, "_validity_ms", lambda _: 60_000)
    with Site([link.url for link in links]) as slow:
        _answers_come_after_ms(links, 300)
        assert (slow.ask(name, ttl_ms=200), five.held(name)) == ("granted", 0)


def test_a_renewal_that_comes_too_late_is_a_loss(links: list[Link], name: str) -> None:
    with Site([link.url for link in links]) as slow:
        assert slow.ask(name, ttl_ms=500) == "granted"
        _answers_come_after_ms(links, 600)
        assert slow.lease
        assert slow.store.extend(name, slow.lease.token, ttl_ms=500) is None
        assert slow.extend() == "lost"


def test_a_lease_granted_too_late_is_taken_back_and_not_left_to_expire(
    five: Majority, site: Sites, name: str
) -> None:
    late = five.servers[:3]
    assert _asked_while_paused(five, site(), late, name) == "busy"
    assert (five.held(name), five.calls("del")) == (0, [1, 1, 1, 0, 0])


def test_without_the_release_it_would_have_kept_everybody_out(
    five: Majority, site: Sites, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(PrimaryStore, "release", lambda *_, **__: True)
    assert _asked_while_paused(five, site(), five.servers[:3], name) == "busy"
    assert (five.held(name), five.calls("del")) == (3, [0] * 5)


def _warm(site: Sites, name: str) -> Site:
    """A process that is connected to all servers already."""
    one = site(timeout_ms=HUNG_TIMEOUT_MS)
    assert (one.ask(name), one.free()) == ("granted", "freed")
    return one


def _seconds_of_asking(one: Site, name: str) -> float:
    """The median time of an acquisition; too few of them to open a breaker."""
    took = []
    for number in range(3):
        started = time.perf_counter()
        said = one.store.take(f"{name}-{number}", "token", ttl_ms=60_000, wait_ms=0)
        took.append(time.perf_counter() - started)
        assert isinstance(said, Granted)
    return statistics.median(took)


def _one_after_the_other(
    store: Redlock, ask: Callable[[LockStore], object]
) -> list[object | CoordinationError]:
    return [redlock._answer(ask, each) for each in store._stores]


def _answers_come_after_ms(links: Sequence[Link], delay_ms: float) -> None:
    for link in links:
        link.delay_ms = delay_ms


def _asked_while_paused(five: Majority, one: Site, paused: Sequence[Valkey], name: str) -> str:
    """Ask while some servers do nothing for twice the lease's time, and then grant it."""
    five.forget_calls()
    for server in paused:
        five.raw(server).client_pause(1_000)
    return one.ask(name, ttl_ms=500)
