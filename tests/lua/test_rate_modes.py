"""What rate_admit.v2 adds, rate_refund, rate_reset and fleet_beat, on every server."""

from __future__ import annotations

import pytest

from app.coordination import keys
from tests.lua.conftest import ScriptServer
from tests.lua.rate_calls import as_v1
from tests.support.waiting import eventually

EXACT, SHADOW, PROBE = 1, 2, 4
DAY_MS = 86_400_000  # a cell of it lasts for 22 minutes, and no test does
CELL_US = DAY_MS * 1_000 // 64
OWED_MS = 3_600_000
WHO = "account:1"
WRITES, READS = keys.rate(WHO, "writes"), keys.rate(WHO, "reads")
MARKER = keys.rate_reset(WHO)

Asked = tuple[str, int, int, int]
"""Key, amount, cost, mode; the window is a day."""


def admit(server: ScriptServer, *asked: Asked) -> list[int]:
    """The reply as v1 would put it."""
    args = [number for _, amount, cost, mode in asked for number in (amount, DAY_MS, cost, mode)]
    return as_v1(server.run("rate_admit.v2", [key for key, *_ in asked], *args))


def refund(
    server: ScriptServer, at: int, *taken: tuple[str, int], shared: int = 1, window: int = DAY_MS
) -> int:
    """Each of `taken` is (key, cost)."""
    args = [number for _, cost in taken for number in (at, cost, window, shared)]
    names = [MARKER, *(key for key, _ in taken)]
    return int(server.run("rate_refund.v1", names, *args))


def reset(server: ScriptServer, *logs: str) -> int:
    return int(server.run("rate_reset.v1", [MARKER, *logs], OWED_MS))


def used(server: ScriptServer, key: str) -> int:
    return int.from_bytes(server.do("GETRANGE", key, 0, 3), "big")


def log(*entries: tuple[int, int]) -> bytes:
    """The stored form: total, then (newest hit in us, hits), oldest first."""
    total = sum(hits for _, hits in entries)
    body = b"".join(at.to_bytes(7, "big") + hits.to_bytes(4, "big") for at, hits in entries)
    return total.to_bytes(4, "big") + body


def stored(server: ScriptServer, key: str, *entries: tuple[int, int]) -> None:
    server.do("SET", key, log(*entries), "PX", DAY_MS)


# --- exact --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "entries"), [(EXACT, 4), (0, 1)])
def test_exact_hits_share_no_entry_and_others_of_one_cell_do(
    server: ScriptServer, mode: int, entries: int
) -> None:
    stored(server, WRITES, (server.now_us() + 60_000_000, 1))  # the clock stands still there
    for _ in range(3):
        assert admit(server, (WRITES, 1_000, 1, mode))[0] == 1
    assert server.do("STRLEN", WRITES) == 4 + 11 * entries
    assert used(server, WRITES) == 4


@pytest.mark.parametrize(("mode", "waits_for"), [(EXACT, "oldest"), (0, "newest")])
def test_the_wait_of_an_exact_limit_ends_with_the_oldest_hit_itself(
    server: ScriptServer, mode: int, waits_for: str
) -> None:
    at = {"oldest": admit(server, (WRITES, 65, 64, mode))[1]}
    eventually(lambda: server.now_us() > at["oldest"] + 5_000, what="5 ms to pass")
    at["newest"] = admit(server, (WRITES, 65, 1, mode))[1]
    denied, now, _, _, retry_ms = admit(server, (WRITES, 65, 1, mode))
    assert denied == 0
    assert 0 <= now + retry_ms * 1_000 - (at[waits_for] + DAY_MS * 1_000) < 1_000


# --- shadow and probe ---------------------------------------------------------------------------


def test_a_shadow_limit_denies_nothing_and_takes_nothing_where_it_would_have(
    server: ScriptServer,
) -> None:
    both = (WRITES, 2, 1, SHADOW), (READS, 100, 1, 0)
    replies = [admit(server, *both) for _ in range(5)]
    assert [reply[0] for reply in replies] == [1] * 5
    assert [reply[4] > 0 for reply in replies] == [False, False, True, True, True]
    assert (used(server, WRITES), used(server, READS)) == (2, 5)


def test_the_same_limit_without_its_shadow_denies(server: ScriptServer) -> None:
    """The control of the test above."""
    both = (WRITES, 2, 1, 0), (READS, 100, 1, 0)
    assert [admit(server, *both)[0] for _ in range(5)] == [1, 1, 0, 0, 0]
    assert (used(server, WRITES), used(server, READS)) == (2, 2)


def test_a_shadow_that_is_never_met_lets_pass_and_says_never(server: ScriptServer) -> None:
    passes, _, remaining, _, retry_ms = admit(server, (WRITES, 2, 3, SHADOW))
    assert (passes, remaining, retry_ms) == (1, 2, -1)
    assert server.do("EXISTS", WRITES) == 0


def test_a_limit_denies_beside_a_shadow_and_neither_counts(server: ScriptServer) -> None:
    both = (WRITES, 100, 1, SHADOW), (READS, 2, 1, 0)
    assert [admit(server, *both)[0] for _ in range(4)] == [1, 1, 0, 0]
    assert (used(server, WRITES), used(server, READS)) == (2, 2)


def test_a_probe_takes_nothing_and_denies_as_if_it_did(server: ScriptServer) -> None:
    both = (WRITES, 2, 1, PROBE), (READS, 100, 1, 0)
    assert [admit(server, *both)[0] for _ in range(3)] == [1, 1, 1]
    assert (used(server, WRITES), used(server, READS)) == (0, 3)
    assert admit(server, (WRITES, 2, 2, 0))[0] == 1
    denied = admit(server, *both)
    assert (denied[0], denied[4] > 0) == (0, True)
    assert (used(server, WRITES), used(server, READS)) == (2, 3)


# --- refund -------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [5, 64])
def test_a_refund_takes_out_the_requests_own_hit_and_no_other(
    server: ScriptServer, amount: int
) -> None:
    first, second, third = (admit(server, (WRITES, amount, 1, 0))[1] for _ in range(3))
    assert refund(server, second, (WRITES, 1), shared=0) == 1
    assert server.do("GET", WRITES) == log((first, 1), (third, 1))
    assert refund(server, second, (WRITES, 1), shared=0) == (second in (first, third))


def test_a_refund_of_a_merged_entry_leaves_its_time(server: ScriptServer) -> None:
    newest = server.now_us() // CELL_US * CELL_US - 1
    stored(server, WRITES, (newest, 5))
    assert refund(server, newest - 10, (WRITES, 2)) == 1
    assert server.do("GET", WRITES) == log((newest, 3))


def test_an_entry_of_another_cell_is_another_ones(server: ScriptServer) -> None:
    newest = server.now_us() // CELL_US * CELL_US - 1
    stored(server, WRITES, (newest, 5))
    assert refund(server, newest - CELL_US, (WRITES, 2)) == 0
    assert refund(server, newest - 10, (WRITES, 2), shared=0) == 0
    assert refund(server, newest + 1, (WRITES, 2)) == 0
    assert server.do("GET", WRITES) == log((newest, 5))


def test_hits_of_one_microsecond_are_given_back_whole(server: ScriptServer) -> None:
    """Under a clock that stepped back, requests of different costs have the same time."""
    at = server.now_us() + 1_000_000
    stored(server, WRITES, (at - 1, 1), (at, 1), (at, 5), (at + 1, 1))
    assert refund(server, at, (WRITES, 5), shared=0) == 1
    assert server.do("GET", WRITES) == log((at - 1, 1), (at, 1), (at + 1, 1))
    assert refund(server, at, (WRITES, 1), shared=0) == 1
    assert server.do("GET", WRITES) == log((at - 1, 1), (at + 1, 1))


def test_after_the_window_nothing_is_given_back(server: ScriptServer) -> None:
    now = server.now_us()
    left = now - DAY_MS * 1_000
    stored(server, WRITES, (left, 1), (now, 1))
    assert refund(server, left, (WRITES, 1)) == 0
    assert server.do("GET", WRITES) == log((left, 1), (now, 1))
    assert refund(server, left, (WRITES, 1), window=2 * DAY_MS) == 1  # of a longer window, it is


def test_a_refund_keeps_the_time_to_live(server: ScriptServer) -> None:
    at = admit(server, (WRITES, 5, 2, 0))[1]
    server.do("PEXPIRE", WRITES, 30_000)
    assert refund(server, at, (WRITES, 1), shared=0) == 1
    assert 0 < server.do("PTTL", WRITES) <= 30_000


def test_a_refund_of_all_there_is_leaves_the_newest_time_with_no_hits(
    server: ScriptServer,
) -> None:
    at = admit(server, (WRITES, 5, 2, 0), (READS, 100, 1, 0))[1]
    assert refund(server, at, (WRITES, 2), (READS, 1), (keys.rate(WHO, "batch"), 1)) == 2
    assert [server.do("GET", key) for key in (WRITES, READS)] == [log((at, 0))] * 2
    assert reset(server, WRITES, READS) == 0
    assert server.do("EXISTS", WRITES, READS) == 0


# --- reset --------------------------------------------------------------------------------------


def test_a_reset_forgets_the_named_limits_and_no_other(server: ScriptServer) -> None:
    batch = keys.rate(WHO, "batch")
    admit(server, (WRITES, 5, 1, 0), (READS, 100, 1, 0), (batch, 100, 1, 0))
    assert reset(server, WRITES, READS, keys.rate(WHO, "never used")) == 2
    assert [server.do("EXISTS", key) for key in (WRITES, READS, batch)] == [0, 0, 1]
    assert 0 < server.do("PTTL", MARKER) <= OWED_MS


def test_a_refund_after_a_reset_takes_nobody_elses_hit(server: ScriptServer) -> None:
    before = admit(server, (WRITES, 100, 1, 0))[1]
    reset(server, WRITES)
    admit(server, (WRITES, 100, 1, 0))
    assert refund(server, before, (WRITES, 1)) == 0
    assert used(server, WRITES) == 1
    server.do("DEL", MARKER)  # the control: without it, the other's hit would be gone
    assert refund(server, before, (WRITES, 1)) == 1
    assert used(server, WRITES) == 0


def test_a_hit_after_a_reset_is_given_back(server: ScriptServer) -> None:
    reset(server, WRITES)
    at = admit(server, (WRITES, 100, 1, 0))[1]
    assert refund(server, at, (WRITES, 1)) == int(at > int(server.do("GET", MARKER)))


def test_a_later_reset_under_an_earlier_clock_owes_no_more(server: ScriptServer) -> None:
    ahead = server.now_us() + 60_000_000
    stored(server, WRITES, (ahead, 1))
    assert reset(server, WRITES) == 1
    assert reset(server, WRITES) == 0
    assert int(server.do("GET", MARKER)) == ahead
    stored(server, WRITES, (ahead, 1))
    assert refund(server, ahead, (WRITES, 1)) == 0


# --- fleet_beat ---------------------------------------------------------------------------------


def beat(server: ScriptServer, identity: str, ttl_ms: int = 10_000) -> int:
    return int(server.run("fleet_beat.v1", [keys.FLEET], identity, ttl_ms))


def test_processes_are_counted_once_each(server: ScriptServer) -> None:
    assert [beat(server, identity) for identity in ("a", "b", "a", "c", "b")] == [1, 2, 2, 3, 3]


def test_one_that_leaves_counts_no_more(server: ScriptServer) -> None:
    assert [beat(server, "a"), beat(server, "b"), beat(server, "a", 0)] == [1, 2, 1]
    assert server.do("ZRANGE", keys.FLEET, 0, -1) == [b"b"]
    assert beat(server, "never there", 0) == 1


def test_one_that_beats_no_more_drops_out_at_its_time(server: ScriptServer) -> None:
    now_ms = server.now_us() // 1_000
    server.do("ZADD", keys.FLEET, now_ms, "dead", now_ms + 60_000, "quiet")
    assert beat(server, "alive") == 2
    assert float(server.do("ZSCORE", keys.FLEET, "alive")) > now_ms + 9_000
    assert beat(server, "dying", 50) == 3
    eventually(lambda: beat(server, "alive") == 2, what="the dying one to drop out")


def test_the_list_expires_with_the_last_beat(server: ScriptServer) -> None:
    beat(server, "a", 500)
    assert 0 < server.do("PTTL", keys.FLEET) <= 500
