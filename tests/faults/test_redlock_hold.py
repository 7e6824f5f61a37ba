"""Blocks under a majority's lock: renewed while servers come and go, and told of a loss."""

from __future__ import annotations

import time

import pytest

from app.coordination.lease import Lease, LeaseState
from app.coordination.lock_store import Granted, Taken
from app.coordination.redlock import Redlock
from app.errors import InvalidInput, LockBusy, LockLost, RedisUnavailable
from tests.faults.conftest import Sites
from tests.support.majority import Link, Majority, Site
from tests.support.waiting import eventually


def test_a_block_longer_than_its_lease_keeps_the_lock_with_two_servers_killed(
    five: Majority, site: Sites, name: str
) -> None:
    one, other = site(), site()
    with one.locks.hold(name, ttl_ms=1_000, on_loss="closed") as lease:
        for server in five.servers[:2]:
            server.kill()
        told = _told_until(lease, ttls=2, other=other, name=name)
        assert set(told) == {"busy"}
        assert lease.state is LeaseState.HELD
        assert lease.fence is None
    assert five.held(name) == 0
    assert other.ask(name) == "granted"


def test_without_renewals_it_would_have_passed_on_within_the_block(site: Sites, name: str) -> None:
    """The control of the test above."""
    one, other = site(), site()
    lease = one.locks.acquire(name, ttl_ms=500)
    told = _told_until(lease, ttls=2, other=other, name=name)
    assert told[-1] == "granted"
    assert lease.state is LeaseState.LOST


def test_a_lease_that_three_servers_forgot_is_lost_and_told_once(
    five: Majority, site: Sites, name: str
) -> None:
    one = site()
    told: list[Lease] = []
    with one.locks.hold(name, ttl_ms=500, on_loss="closed", on_lost=told.append) as lease:
        for server in five.servers[:2]:
            five.drop(server, name)
        before = lease.until
        eventually(lambda: lease.until > before, what="a renewal by the other three")
        five.drop(five.servers[2], name)
        eventually(lambda: told, what="the loss to be told")
        with pytest.raises(LockLost):
            lease.ensure_held()
    assert told == [lease]
    assert one.figure("lock_lost_total") == 1
    assert five.held(name) == 0


def test_a_majority_that_is_silent_for_a_while_leaves_the_lease_in_doubt_and_then_held(
    links: list[Link], name: str
) -> None:
    with (
        Site([link.url for link in links]) as one,
        one.locks.hold(name, ttl_ms=2_000, on_loss="closed") as lease,
    ):
        for link in links[:3]:
            link.part()
        eventually(lambda: lease.state is LeaseState.UNKNOWN, what="a renewal without an answer")
        lease.ensure_held()
        for link in links[:3]:
            link.join()
        eventually(lambda: lease.state is not LeaseState.UNKNOWN, what="a renewal")
        assert lease.state is LeaseState.HELD


def test_a_majority_that_stays_silent_ends_the_lease_by_its_own_time(
    links: list[Link], name: str
) -> None:
    told: list[float] = []
    with (
        Site([link.url for link in links]) as one,
        one.locks.hold(
            name,
            ttl_ms=600,
            on_loss="closed",
            on_lost=lambda lost: told.append(time.monotonic() - lost.until),
        ) as lease,
    ):
        for link in links[:3]:
            link.part()
        eventually(lambda: told, what="the loss to be told")
        assert lease.state is LeaseState.LOST
    assert len(told) == 1
    assert told[0] >= 0  # not before its time was over
    assert one.figure("lock_lost_total") == 1


def test_with_a_majority_gone_the_callers_policy_decides(
    five: Majority, site: Sites, name: str
) -> None:
    one = site()
    for server in five.servers[:3]:
        server.kill()
    with one.locks.hold(name, ttl_ms=500, on_loss="open") as lease:
        assert (lease.protected, five.held(name)) == (False, 0)
    assert one.figure("lock_unprotected_total") == 1
    with (
        pytest.raises(RedisUnavailable),
        one.locks.hold(name, ttl_ms=500, on_loss="closed"),
    ):
        pytest.fail("the block must not run")


def _told_until(lease: Lease, *, ttls: float, other: Site, name: str) -> list[str]:
    """What another process is told, again and again until the lease is some of its times old."""
    told: list[str] = []

    def is_old() -> bool:
        old = time.monotonic() - lease.since > ttls * lease.ttl_ms / 1000
        told.append(other.ask(name))
        return old or told[-1] == "granted"

    eventually(is_old, what="the lease to be old")
    return told


def test_a_majority_takes_no_token_of_the_callers_own(site: Sites, name: str) -> None:
    with pytest.raises(InvalidInput, match="no token of one's own"):
        site().locks.acquire(name, ttl_ms=60_000, token="mine")


def test_every_try_of_a_majority_has_a_token_of_its_own(
    site: Sites, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of the first that comes late takes nothing from the second."""
    asked: list[str] = []
    take = Redlock.take

    def noted(
        self: Redlock, name: str, token: str, *, ttl_ms: int, wait_ms: int
    ) -> Granted | Taken:
        asked.append(token)
        return take(self, name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)

    monkeypatch.setattr(Redlock, "take", noted)
    one, other = site(), site()
    assert one.ask(name) == "granted"
    with pytest.raises(LockBusy):
        other.locks.acquire(name, ttl_ms=60_000, retries=2)
    assert len(asked) == len(set(asked)) == 4
