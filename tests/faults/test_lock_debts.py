"""What a lock's holder owes a server that did not hear it: paid later, or a name stays taken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.coordination import failures
from app.coordination.lock_debts import Debts
from app.coordination.lock_store import Granted, PrimaryStore, Taken
from app.errors import LockBusy, LockLost, RedisUnavailable
from tests.support.locks import LONG_MS, NAME, LockServer
from tests.support.majority import Link, Majority, Site
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

OTHER = "other"
SOON_S = 0.6  # for the controls: a first try would have been made by then


@pytest.fixture
def server(valkey: Valkey) -> Iterator[LockServer]:
    with LockServer.on(valkey) as server:
        yield server


@pytest.fixture
def nothing_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protection taken out."""
    monkeypatch.setattr(Debts, "owe", lambda *_, **__: None)


# --- a majority's ---------------------------------------------------------------------------------


def a_vote_granted_unheard_is_given_back(
    five: Majority, links: list[Link], name: str, *, within_s: float
) -> None:
    """A server grants, nobody hears it, and its network is gone when the vote is given back."""
    for server in five.servers[2:]:
        five.put(server, name, OTHER)
    with Site([link.url for link in links]) as one:
        first, take = one.stores[0], one.stores[0].take

        def take_and_part(name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
            links[0].drop_reply_once(after=b"EVALSHA")
            try:
                return take(name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)
            finally:
                links[0].part()

        vars(first)["take"] = take_and_part
        assert one.ask(name) == "busy"
        assert [token == OTHER for token in five.tokens(name)[2:]] == [True] * 3
        assert five.tokens(name)[0] is not None
        links[0].join()
        eventually(
            lambda: five.tokens(name)[0] is None, timeout_s=within_s, what="the vote given back"
        )


def test_a_vote_that_was_granted_unheard_is_given_back_once_its_server_is_reached(
    five: Majority, links: list[Link], name: str
) -> None:
    a_vote_granted_unheard_is_given_back(five, links, name, within_s=10)


@pytest.mark.usefixtures("nothing_is_owed")
def test_without_debts_the_vote_would_have_been_nobodys_for_the_whole_time(
    five: Majority, links: list[Link], name: str
) -> None:
    """The control of the test above."""
    with pytest.raises(AssertionError, match="the vote given back"):
        a_vote_granted_unheard_is_given_back(five, links, name, within_s=SOON_S)


def a_release_reaches_the_minority(
    five: Majority, links: list[Link], name: str, *, within_s: float
) -> None:
    with Site([link.url for link in links]) as one:
        assert one.ask(name) == "granted"
        links[4].part()
        assert (one.free(), five.held(name)) == ("freed", 1)
        links[4].join()
        eventually(lambda: five.held(name) == 0, timeout_s=within_s, what="the last release")


def test_a_release_reaches_the_minority_too_once_it_is_there_again(
    five: Majority, links: list[Link], name: str
) -> None:
    a_release_reaches_the_minority(five, links, name, within_s=10)


@pytest.mark.usefixtures("nothing_is_owed")
def test_without_debts_the_minority_would_have_kept_the_lease(
    five: Majority, links: list[Link], name: str
) -> None:
    """The control of the test above."""
    with pytest.raises(AssertionError, match="the last release"):
        a_release_reaches_the_minority(five, links, name, within_s=SOON_S)


# --- one primary's --------------------------------------------------------------------------------


def a_late_acquisition_is_released(server: LockServer, *, within_s: float) -> None:
    """It was given up and given back, and reaches the server only then."""
    asked = list[str]()

    class OnItsWay(PrimaryStore):
        def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:  # noqa: ARG002
            asked.append(token)
            raise failures.of_kind("timeout", purpose="lock", detail="on its way")

    with pytest.raises(RedisUnavailable):
        server.bench(store=OnItsWay).locks.acquire(NAME, ttl_ms=LONG_MS)
    assert server.scripts_run() == 1  # given back: nothing was there
    arrives = server.bench().store.take(NAME, asked[0], ttl_ms=LONG_MS, wait_ms=0)
    assert isinstance(arrives, Granted)
    eventually(lambda: server.token() is None, timeout_s=within_s, what="the phantom's end")
    assert server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)


def test_an_acquisition_that_arrives_after_it_was_given_back_is_released_still(
    server: LockServer,
) -> None:
    a_late_acquisition_is_released(server, within_s=10)


@pytest.mark.usefixtures("nothing_is_owed")
def test_without_a_second_look_it_would_have_kept_everybody_out(server: LockServer) -> None:
    """The control of the test above."""
    with pytest.raises(AssertionError, match="the phantom's end"):
        a_late_acquisition_is_released(server, within_s=SOON_S)
    with pytest.raises(LockBusy):
        server.bench().locks.acquire(NAME, ttl_ms=LONG_MS)


def test_a_lease_renewed_too_late_for_its_holder_is_not_left_to_last(server: LockServer) -> None:
    """The server renews what the holder's own clock has ended: nobody would use it."""

    class Slow(PrimaryStore):
        def extend(self, name: str, token: str, *, ttl_ms: int) -> float | None:
            until = super().extend(name, token, ttl_ms=ttl_ms)
            lease._until = 0.0  # its time runs out before the answer comes
            return until

    bench = server.bench(store=Slow)
    lease = bench.locks.acquire(NAME, ttl_ms=LONG_MS)
    with pytest.raises(LockLost):
        bench.locks.extend(lease)
    assert server.token() is None
    assert bench.sample("lost_total") == 1
