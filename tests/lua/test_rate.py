"""rate_admit, both releases of it, on every server."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from app.coordination import keys
from tests.lua.conftest import ScriptServer
from tests.lua.rate_calls import as_v1
from tests.support.waiting import eventually

MINUTE = keys.rate("account:1", "reads/minute")
HOUR = keys.rate("account:1", "reads/hour")


Admit = Callable[..., list[int]]


@pytest.fixture(params=["rate_admit.v1", "rate_admit.v2"])
def admit(request: pytest.FixtureRequest, server: ScriptServer) -> Admit:
    """One request by some limits, each of which is (key, amount, window in ms, cost)."""
    is_v2 = request.param == "rate_admit.v2"
    mode = [0] if is_v2 else []

    def decide(*limits: tuple[str, int, int, int]) -> list[int]:
        args = [number for _, *numbers in limits for number in numbers + mode]
        reply: list[int] = server.run(request.param, [limit[0] for limit in limits], *args)
        return as_v1(reply) if is_v2 else reply

    return decide


def test_the_limit_is_admitted_and_not_one_more(admit: Admit) -> None:
    admitted = [admit((MINUTE, 5, 60_000, 1))[0] for _ in range(7)]
    assert admitted == [1, 1, 1, 1, 1, 0, 0]


def test_the_reply_tells_what_remains_and_how_long_to_wait(admit: Admit) -> None:
    first = admit((MINUTE, 2, 60_000, 1))
    assert first[2:] == [1, 60_000, 0]
    admit((MINUTE, 2, 60_000, 1))
    denied, _, remaining, reset, retry = admit((MINUTE, 2, 60_000, 1))
    assert (denied, remaining) == (0, 0)
    assert 0 < retry == reset <= 60_000


def test_the_decision_names_the_servers_clock(server: ScriptServer, admit: Admit) -> None:
    before = server.now_us()
    at = admit((MINUTE, 2, 60_000, 1))[1]
    assert before <= at <= server.now_us()


def test_a_request_denied_by_one_limit_is_counted_by_none(admit: Admit) -> None:
    both = ((MINUTE, 2, 60_000, 1), (HOUR, 100, 3_600_000, 1))
    for _ in range(10):
        admit(*both)
    looked = admit((MINUTE, 2, 60_000, 0), (HOUR, 100, 3_600_000, 0))
    assert [looked[2], looked[5]] == [0, 98]


def test_a_denial_by_the_last_limit_leaves_the_first_uncounted(admit: Admit) -> None:
    for _ in range(5):
        admit((MINUTE, 100, 60_000, 1), (HOUR, 3, 3_600_000, 1))
    assert admit((MINUTE, 100, 60_000, 0))[2] == 97


def test_looking_costs_nothing_and_writes_nothing(server: ScriptServer, admit: Admit) -> None:
    assert admit((MINUTE, 5, 60_000, 0))[:1] == [1]
    assert server.do("EXISTS", MINUTE) == 0


def test_a_cost_counts_as_that_many_hits(admit: Admit) -> None:
    assert admit((MINUTE, 10, 60_000, 7))[2] == 3
    assert admit((MINUTE, 10, 60_000, 4))[0] == 0
    assert admit((MINUTE, 10, 60_000, 3))[2] == 0


def test_a_cost_above_the_limit_is_never_admitted_and_says_so(admit: Admit) -> None:
    denied, _, remaining, _, retry = admit((MINUTE, 10, 60_000, 11))
    assert (denied, remaining, retry) == (0, 10, -1)


def test_the_wait_of_a_costly_request_covers_all_the_hits_it_needs(
    server: ScriptServer, admit: Admit
) -> None:
    first = admit((MINUTE, 3, 60_000, 2))[1]
    eventually(lambda: server.now_us() > first + 5_000, what="5 ms to pass")
    second = admit((MINUTE, 3, 60_000, 1))[1]
    one = admit((MINUTE, 3, 60_000, 1))
    three = admit((MINUTE, 3, 60_000, 3))
    assert abs(one[4] - (60_000 - (one[1] - first) // 1_000)) <= 1
    assert abs(three[4] - (60_000 - (three[1] - second) // 1_000)) <= 1


def test_whoever_waits_as_told_is_admitted(server: ScriptServer, admit: Admit) -> None:
    for _ in range(3):
        admit((MINUTE, 3, 200, 1))
    denied, at, _, _, retry = admit((MINUTE, 3, 200, 1))
    assert denied == 0
    eventually(lambda: server.now_us() >= at + retry * 1_000, what="the wait to pass")
    assert admit((MINUTE, 3, 200, 1))[0] == 1


@pytest.mark.parametrize("limit", [3, 64, 100])
def test_never_more_than_the_limit_in_any_window(admit: Admit, limit: int) -> None:
    window_us, dice, times = 100_000, random.Random(limit), list[int]()
    while len(times) < 4 * limit:
        for _ in range(dice.choice([1, 1, limit])):
            admitted, at, *_ = admit((MINUTE, limit, 100, 1))
            times += [at] * admitted
    assert [b - a for a, b in pairwise(times) if b < a] == []
    assert [
        t for t, later in zip(times, times[limit:], strict=False) if later - t < window_us
    ] == []


def test_a_clock_that_stepped_back_neither_admits_more_nor_forgets(
    server: ScriptServer, admit: Admit
) -> None:
    ahead_us = server.now_us() + 30_000_000
    server.do("SET", MINUTE, _log((ahead_us, 2)))
    admitted, at, remaining, _, _ = admit((MINUTE, 3, 60_000, 1))
    assert (admitted, at, remaining) == (1, ahead_us, 0)
    assert admit((MINUTE, 3, 60_000, 1))[0] == 0
    assert 85_000 < server.do("PTTL", MINUTE) <= 90_000


def test_hits_of_one_cell_share_an_entry_and_memory_stays_bounded(
    server: ScriptServer, admit: Admit
) -> None:
    for _ in range(1_000):
        admit((MINUTE, 5_000, 3_600_000, 1))
    assert server.do("STRLEN", MINUTE) <= 4 + 3 * 11
    now_us, cell_us = server.now_us(), 3_600_000_000 // 64
    cells = [(now_us - i * cell_us, 70) for i in reversed(range(64))]
    server.do("SET", MINUTE, _log(*cells))
    admit((MINUTE, 5_000, 3_600_000, 1))
    assert server.do("STRLEN", MINUTE) <= 4 + 65 * 11


def test_a_hit_is_held_at_most_a_64th_of_the_window_too_long(admit: Admit) -> None:
    window_ms, limit = 640, 65
    first = admit((MINUTE, limit, window_ms, 1))[1]
    while True:
        admitted, at, *_, retry = admit((MINUTE, limit, window_ms, 1))
        if not admitted:
            break
    latest_us = first + window_ms * 1_000 + window_ms * 1_000 // 64
    assert at + retry * 1_000 <= latest_us + 1_000


def test_limits_up_to_64_are_exact(server: ScriptServer, admit: Admit) -> None:
    for _ in range(64):
        admit((MINUTE, 64, 60_000, 1))
    assert server.do("STRLEN", MINUTE) == 4 + 64 * 11


def test_the_log_expires_with_its_window(server: ScriptServer, admit: Admit) -> None:
    admit((MINUTE, 5, 60_000, 1))
    assert 0 < server.do("PTTL", MINUTE) <= 60_000


def test_a_denied_request_does_not_prolong_anything(server: ScriptServer, admit: Admit) -> None:
    admit((MINUTE, 1, 60_000, 1))
    server.do("PEXPIRE", MINUTE, 30_000)
    admit((MINUTE, 1, 60_000, 1))
    assert server.do("PTTL", MINUTE) <= 30_000


def _log(*entries: tuple[int, int]) -> bytes:
    """The stored form: total, then (newest hit in us, hits) oldest first."""
    total = sum(hits for _, hits in entries)
    body = b"".join(at.to_bytes(7, "big") + hits.to_bytes(4, "big") for at, hits in entries)
    return total.to_bytes(4, "big") + body
