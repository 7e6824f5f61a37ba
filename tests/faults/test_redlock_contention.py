"""Never two holders of a majority's lock: under partitions, and under contention.

A `Witness` counts whoever comes in while another, whose lease stands, is inside. The same without
the majority are the controls.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from app.coordination.breaker import Breaker
from app.coordination.lease import Lease, LeaseState
from app.errors import CoordinationError
from tests.faults.conftest import Sites
from tests.support.majority import Link, Majority, Site, subsets

SERVERS, PLANTED = 5, 2
MANY = 1_000
Way = list[Link]


class Witness:
    """Looks who is inside at the same time."""

    def __init__(self) -> None:
        self.passages = self.violations = 0
        self._inside: set[Lease] = set()
        self._lock = threading.Lock()

    def enter(self, lease: Lease) -> None:
        with self._lock:
            self.passages += 1
            standing = [each for each in (*self._inside, lease) if each.state is LeaseState.HELD]
            self.violations += lease in standing and len(standing) > 1
            self._inside.add(lease)

    def leave(self, lease: Lease) -> None:
        with self._lock:
            self._inside.remove(lease)


@pytest.fixture
def ways(five: Majority) -> Iterator[Callable[[int], list[Way]]]:
    """For each of so many processes a way to each of the five servers that can be cut."""
    with ExitStack() as stack:

        def start(count: int) -> list[Way]:
            return [
                [stack.enter_context(Link.start(server.port)) for server in five.servers]
                for _ in range(count)
            ]

        yield start


def test_of_two_sides_of_any_partition_the_larger_gets_the_lock_and_the_smaller_no_answer(
    ways: Callable[[int], list[Way]],
) -> None:
    told = _both_sides(*ways(2))
    assert len(told) == 2**SERVERS
    assert told == {
        side: ("granted", "unknown") if side.bit_count() >= 3 else ("unknown", "granted")
        for side in told
    }


def test_with_two_of_five_as_the_quorum_both_sides_would_have_got_it(
    ways: Callable[[int], list[Way]],
) -> None:
    """The control of the test above."""
    told = _both_sides(*ways(2), quorum=PLANTED)
    both = [side for side, said in told.items() if said == ("granted", "granted")]
    assert len(both) == 20
    assert {side.bit_count() for side in both} == {2, 3}


def test_whoever_contends_gets_through_and_never_two_at_once(site: Sites, name: str) -> None:
    witness = Witness()
    done = _contend([site() for _ in range(4)], witness, name, passages=25)
    assert done == [25] * 4
    assert (witness.passages, witness.violations) == (100, 0)


def test_with_two_of_five_as_the_quorum_two_would_have_been_in_at_once(
    site: Sites, name: str
) -> None:
    """The control of the test above."""
    witness = Witness()
    _contend([site(quorum=PLANTED) for _ in range(4)], witness, name, passages=MANY)
    assert witness.violations > 0


def test_while_links_come_and_go_everybody_gets_through_and_never_two_at_once(
    ways: Callable[[int], list[Way]], name: str
) -> None:
    witness = Witness()
    done = _contend_while_links_come_and_go(ways(3), witness, name, passages=10)
    assert done == [10] * 3
    assert (witness.passages, witness.violations) == (30, 0)


def test_with_two_of_five_as_the_quorum_they_would_have_met_while_links_come_and_go(
    ways: Callable[[int], list[Way]], name: str
) -> None:
    """The control of the test above."""
    witness = Witness()
    _contend_while_links_come_and_go(ways(3), witness, name, passages=MANY, quorum=PLANTED)
    assert witness.violations > 0


def _both_sides(ours: Way, theirs: Way, *, quorum: int | None = None) -> dict[int, tuple[str, str]]:
    """For every way to part the servers, as the bits of our side, what each side is told."""
    told: dict[int, tuple[str, str]] = {}
    for link in ours:
        link.part()
    for side, moved in subsets(SERVERS):
        if moved is not None:
            to, away = (ours, theirs) if side >> moved & 1 else (theirs, ours)
            away[moved].part()
            to[moved].join()
        told[side] = _asked_by_both(ours, theirs, f"partition-{side}", quorum)
    return told


def _asked_by_both(ours: Way, theirs: Way, name: str, quorum: int | None) -> tuple[str, str]:
    with _site(ours, quorum) as one, _site(theirs, quorum) as other:
        return one.ask(name), other.ask(name)


def _contend(
    sites: Sequence[Site], witness: Witness, name: str, *, passages: int, ttl_ms: int = 30_000
) -> list[int]:
    """All at the same lock at the same time, until two meet; how often each got through."""
    together = threading.Barrier(len(sites))

    def run(one: Site) -> int:
        together.wait()
        for number in range(passages):
            if witness.violations:
                return number
            lease = one.locks.acquire(name, ttl_ms=ttl_ms, retries=None, wait_ms=60_000)
            witness.enter(lease)
            time.sleep(0.005)  # work
            witness.leave(lease)
            with contextlib.suppress(CoordinationError):
                one.locks.release(lease)
        return passages

    with ThreadPoolExecutor(len(sites)) as pool:
        return list(pool.map(run, sites))


def _contend_while_links_come_and_go(
    ways: list[Way], witness: Witness, name: str, *, passages: int, quorum: int | None = None
) -> list[int]:
    """Each process reaches three or four servers at any moment, and not the same ones."""
    over = threading.Event()
    with ExitStack() as stack:
        sites = [stack.enter_context(_site(way, quorum)) for way in ways]
        for client in (client for one in sites for client in one.clients):
            client.breaker = Breaker(failures=99)
        mover = threading.Thread(target=_part_and_join, args=(ways, over))
        mover.start()
        try:
            return _contend(sites, witness, name, passages=passages, ttl_ms=300)
        finally:
            over.set()
            mover.join()


def _part_and_join(ways: list[Way], over: threading.Event) -> None:
    source = random.Random(7)
    cut = [source.sample(way, 2) for way in ways]
    for link in (link for links in cut for link in links):
        link.part()
    while not over.wait(0.01):
        which = source.randrange(len(ways))
        cut[which].pop(0).join()
        link = source.choice([each for each in ways[which] if each not in cut[which]])
        link.part()
        cut[which].append(link)


def _site(way: Way, quorum: int | None) -> Site:
    return Site([link.url for link in way], quorum=quorum)
