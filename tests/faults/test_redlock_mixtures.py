"""What a lock of three among five comes to when the five servers do not say the same.

Every mixture of servers that say yes, that say no and that are not heard is put together on real
servers: leases are given away or dropped, links are cut, replies are swallowed. The same with two
of five as the quorum, or with nothing released, are the controls.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import pytest

from app.coordination.breaker import Breaker
from app.coordination.lease import LeaseState
from app.coordination.lock_store import Granted, PrimaryStore, Taken
from app.errors import RedisUnavailable
from tests.support.majority import Link, Majority, Site

SERVERS, QUORUM, PLANTED = 5, 3, 2
OTHER = "other"

Mixture = tuple[int, int, int]  # servers that say yes, that say no, that are not heard
MIXTURES: list[Mixture] = [
    (yes, no, SERVERS - yes - no) for yes in range(SERVERS + 1) for no in range(SERVERS + 1 - yes)
]
Told = dict[Mixture, tuple[object, ...]]
Loss = Callable[[Sequence[Link]], AbstractContextManager[None]]


@contextlib.contextmanager
def unreachable(links: Sequence[Link]) -> Iterator[None]:
    """Nothing is asked of them."""
    for link in links:
        link.part()
    yield
    for link in links:
        link.join()


@contextlib.contextmanager
def unheard(links: Sequence[Link]) -> Iterator[None]:
    """Each does what it is asked first, and its answer is lost."""
    for link in links:
        link.drop_reply_once(after=b"EVALSHA")
    yield


@pytest.mark.parametrize("loss", [unreachable, unheard])
def test_three_grants_are_a_lock_and_fewer_are_given_back_everywhere(
    five: Majority, links: list[Link], loss: Loss
) -> None:
    told = _acquired(five, links, loss)
    assert len(told) == 21
    assert told == {mixture: _right_acquired(mixture, loss) for mixture in MIXTURES}


def test_two_grants_would_have_been_a_lock_beside_anothers_three(
    five: Majority, links: list[Link]
) -> None:
    """The control of the test above: two of five as the quorum."""
    told = _acquired(five, links, unreachable, quorum=PLANTED)
    wrong = [each for each in MIXTURES if told[each] != _right_acquired(each, unreachable)]
    assert len(wrong) == 6
    assert told[2, 3, 0] == ("granted", 2, 3)


@pytest.mark.parametrize(("loss", "left"), [(unreachable, 9), (unheard, 14)])
def test_without_the_release_a_refused_acquisition_would_have_stayed_where_it_was_granted(
    five: Majority, links: list[Link], monkeypatch: pytest.MonkeyPatch, loss: Loss, left: int
) -> None:
    """The control of the test above: an acquisition that gives nothing back."""
    monkeypatch.setattr(PrimaryStore, "release", lambda *_, **__: True)
    told = _acquired(five, links, loss)
    wrong = [each for each in MIXTURES if told[each] != _right_acquired(each, loss)]
    assert len(wrong) == left
    assert told[2, 3, 0] == ("busy", 2, 3)


def test_a_lease_is_renewed_by_three_lost_without_three_and_else_in_doubt(
    five: Majority, links: list[Link]
) -> None:
    assert _extended(five, links) == {mixture: _right_extended(mixture) for mixture in MIXTURES}


def test_two_renewals_would_have_been_enough_for_a_lease_that_another_can_take(
    five: Majority, links: list[Link]
) -> None:
    """The control of the test above: two of five as the quorum."""
    told = _extended(five, links, quorum=PLANTED)
    wrong = [each for each in MIXTURES if told[each] != _right_extended(each)]
    assert len(wrong) == 6
    assert told[2, 3, 0] == ("extended", True, True, 0)


def test_a_release_counts_if_three_had_it_and_frees_every_server_that_is_reached(
    five: Majority, links: list[Link]
) -> None:
    assert _released(five, links) == {mixture: _right_released(mixture) for mixture in MIXTURES}


def test_two_releases_would_have_counted_as_the_end_of_a_lease_that_was_lost(
    five: Majority, links: list[Link]
) -> None:
    """The control of the test above: two of five as the quorum."""
    told = _released(five, links, quorum=PLANTED)
    wrong = [each for each in MIXTURES if told[each] != _right_released(each)]
    assert len(wrong) == 6
    assert told[2, 3, 0] == ("freed", 0)


def test_who_must_wait_is_told_the_end_of_the_shortest_lease(
    five: Majority, links: list[Link]
) -> None:
    for server, ttl_ms in zip(five.servers, (60_000, 60_000, 9_000, 60_000), strict=False):
        five.put(server, "sweep", OTHER, ttl_ms=ttl_ms)
    with _site(links, None) as one:
        said = one.store.take("sweep", "token", ttl_ms=60_000, wait_ms=0)
    assert isinstance(said, Taken)
    assert 0 < said.left_ms <= 9_000


def test_a_lease_ends_for_its_holder_before_it_ends_on_a_server_whose_clock_runs_fast(
    links: list[Link],
) -> None:
    with _site(links, None) as one:
        said = one.store.take("sweep", "token", ttl_ms=60_000, wait_ms=0)
        answered = time.monotonic()
    assert isinstance(said, Granted)
    assert said.until - answered < 60 * 0.99


def test_of_several_reasons_the_one_that_leaves_a_trace_is_told(
    five: Majority, links: list[Link]
) -> None:
    with _site(links, None) as one, unreachable(links[2:3]):
        for client in (one.clients[0], one.clients[4]):
            client.breaker = Breaker(failures=1, open_s=600)
            client.breaker.failed()
        with pytest.raises(RedisUnavailable) as lost:
            one.store.take("sweep", "token", ttl_ms=60_000, wait_ms=0)
    assert lost.value.kind == "connection"
    assert five.held("sweep") == 0


def _acquired(five: Majority, links: list[Link], loss: Loss, *, quorum: int | None = None) -> Told:
    """What is told, on how many servers it is ours then, and on how many the other's."""
    told: Told = {}
    for yes, no, lost in MIXTURES:
        name = f"acquired-{yes}-{no}-{lost}"
        for server in five.servers[yes : yes + no]:
            five.put(server, name, OTHER)
        with _site(links, quorum) as one, loss(links[yes + no :]):
            answer, tokens = one.ask(name), five.tokens(name)
        others = tokens.count(OTHER)
        told[yes, no, lost] = answer, SERVERS - others - tokens.count(None), others
    return told


def _right_acquired(mixture: Mixture, loss: Loss) -> tuple[object, ...]:
    yes, no, lost = mixture
    if yes >= QUORUM:
        return "granted", yes + lost * (loss is unheard), no
    return "unknown" if lost >= QUORUM else "busy", 0, no


def _extended(five: Majority, links: list[Link], *, quorum: int | None = None) -> Told:
    """What is told, whether the lease stands, whether it stands longer, and the losses counted."""
    told: Told = {}
    for mixture, _, one in _held(five, links, quorum, "extended"):
        lease = one.lease
        assert lease
        before = lease.until
        answer = one.extend()
        stands = lease.state is not LeaseState.LOST
        told[mixture] = answer, stands, lease.until > before, one.figure("lock_lost_total")
    return told


def _right_extended(mixture: Mixture) -> tuple[object, ...]:
    yes, _, lost = mixture
    if yes >= QUORUM:
        return "extended", True, True, 0
    return ("unknown", True, False, 0) if yes + lost >= QUORUM else ("lost", False, False, 1)


def _released(five: Majority, links: list[Link], *, quorum: int | None = None) -> Told:
    """What is told, and on how many servers it is held then."""
    told: Told = {}
    for mixture, name, one in _held(five, links, quorum, "released"):
        told[mixture] = one.free(), five.held(name)
    return told


def _right_released(mixture: Mixture) -> tuple[object, ...]:
    yes, _, lost = mixture
    if lost >= QUORUM:
        return "unknown", lost
    return "freed" if yes >= QUORUM else "not ours", lost


def _held(
    five: Majority, links: list[Link], quorum: int | None, prefix: str
) -> Iterator[tuple[Mixture, str, Site]]:
    """For each mixture a lock taken on all five, then dropped by some and out of reach on some."""
    for yes, no, lost in MIXTURES:
        name = f"{prefix}-{yes}-{no}-{lost}"
        with _site(links, quorum) as one:
            assert one.ask(name) == "granted"
            for server in five.servers[yes : yes + no]:
                five.drop(server, name)
            with unreachable(links[yes + no :]):
                yield (yes, no, lost), name, one


def _site(links: list[Link], quorum: int | None) -> Site:
    return Site([link.url for link in links], quorum=quorum)
