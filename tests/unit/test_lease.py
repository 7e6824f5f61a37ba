"""What a holder may believe of its lease, under a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.coordination.lease import Lease, LeaseState
from app.errors import LockLost

HELD, UNKNOWN, LOST = LeaseState.HELD, LeaseState.UNKNOWN, LeaseState.LOST


class Clock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(clock: Clock) -> Lease:
    return lease_of(clock)


def lease_of(clock: Clock, kind: type[Lease] = Lease) -> Lease:
    """Of 10 s, from now."""
    return kind("sweep", "secret", fence=7, ttl_ms=10_000, until=clock() + 10, clock=clock)


def test_a_lease_is_held_until_its_very_end_and_lost_from_then_on(
    clock: Clock, lease: Lease
) -> None:
    clock.s += 9.999
    lease.ensure_held()
    assert lease.state is HELD
    clock.s += 0.001
    assert lease.state is LOST
    with pytest.raises(LockLost, match="'sweep' is lost"):
        lease.ensure_held()


def test_a_renewal_moves_the_end(clock: Clock, lease: Lease) -> None:
    clock.s += 9
    lease.renewed(clock() + 10)
    clock.s += 9
    assert lease.state is HELD
    assert lease.until == clock() + 1


def test_a_lease_in_doubt_still_stands_and_a_renewal_ends_the_doubt(
    clock: Clock, lease: Lease
) -> None:
    lease.doubted()
    assert lease.state is UNKNOWN
    lease.ensure_held()
    lease.renewed(clock() + 10)
    assert lease.state is HELD


def test_a_lease_in_doubt_is_lost_at_its_end(clock: Clock, lease: Lease) -> None:
    lease.doubted()
    clock.s += 10
    assert lease.state is LOST


def test_a_renewal_that_comes_after_the_end_changes_nothing(clock: Clock, lease: Lease) -> None:
    clock.s += 10
    lease.renewed(clock() + 10)
    assert lease.state is LOST


def test_a_renewal_that_comes_after_the_loss_changes_nothing(clock: Clock, lease: Lease) -> None:
    lease.lost()
    lease.renewed(clock() + 10)
    assert lease.state is LOST


def test_what_is_unprotected_is_never_lost(clock: Clock) -> None:
    lease = Lease("sweep", "", fence=None, ttl_ms=1, until=0, protected=False, clock=clock)
    lease.ensure_held()
    assert lease.state is UNKNOWN


def test_a_lease_shows_its_fence_and_keeps_its_token_to_itself(lease: Lease) -> None:
    assert repr(lease) == "<Lease 'sweep' fence=7 held>"


EVENTS = st.lists(st.sampled_from(["renewed", "doubted", "lost", "time", "time"]), max_size=20)


def comes_back(kind: type[Lease], events: list[str]) -> bool:
    """Whether a lease that was lost was ever anything else after it."""
    clock = Clock()
    lease, states = lease_of(clock, kind), list[LeaseState]()
    for event in events:
        if event == "renewed":
            lease.renewed(clock() + 10)
        elif event == "time":
            clock.s += 6
        else:
            getattr(lease, event)()
        states.append(lease.state)
    return LOST in states and set(states[states.index(LOST) :]) != {LOST}


@given(EVENTS)
def test_a_lost_lease_never_comes_back_whatever_happens_to_it(events: list[str]) -> None:
    assert not comes_back(Lease, events)


class Forgetful(Lease):
    """A lease that believes every renewal."""

    def renewed(self, until: float) -> None:
        self._until, self._in_doubt, self._lost = until, False, False


def test_a_lease_that_believes_every_renewal_would_come_back() -> None:
    """The control of the test above."""
    assert comes_back(Forgetful, ["lost", "renewed"])
    assert comes_back(Forgetful, ["time", "time", "renewed"])
