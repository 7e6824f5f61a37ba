"""rate_admit.v2 and rate_refund under a clock that steps: each limit goes by a clock of its own.

The scripts are the service's, but for the time, which the test gives them.
"""

from __future__ import annotations

import pytest

from app.coordination import keys
from app.coordination.scripts import Arg
from tests.lua.conftest import ScriptServer
from tests.lua.rate_machine import BEGIN_US
from tests.lua.rate_rigged import ONE_CLOCK, Faults, Rigged

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
WHO = "account:1"
MINUTE, HOUR = keys.rate(WHO, "minute"), keys.rate(WHO, "hour")
AMOUNT = {MINUTE: 3, HOUR: 100}
WINDOW_US = {MINUTE: MINUTE_US, HOUR: HOUR_US}


class Clocked:
    """Requests of one client by the minute, the hour or both, at a time that is set."""

    def __init__(self, server: ScriptServer, faults: Faults | None = None) -> None:
        self.rigged, self.server, self.now = Rigged(server, faults or {}), server, BEGIN_US

    def admit(self, *logs: str, cost: int = 1) -> list[int]:
        args: list[Arg] = []
        for log in logs:
            args += (AMOUNT[log], WINDOW_US[log] // 1_000, cost, 0)
        reply: list[int] = self.rigged.run("rate_admit.v2", logs, args, self.now)
        return reply

    def refund(self, *taken: tuple[str, int]) -> int:
        """Each of `taken` is a log, and the clock that the hit was stored under."""
        args: list[Arg] = []
        for log, at in taken:
            args += (at, 1, WINDOW_US[log] // 1_000, 0)
        names = [keys.rate_reset(WHO), *(log for log, _ in taken)]
        return int(self.rigged.run("rate_refund.v1", names, args, self.now))


@pytest.fixture
def clocked(server: ScriptServer) -> Clocked:
    return Clocked(server)


def _admitted_by_the_minute(clocked: Clocked) -> int:
    """Within one minute, after the clock stepped back by an hour; the hour has a hit of before."""
    clocked.admit(HOUR)
    clocked.now -= HOUR_US
    admitted = 0
    for asked in [(MINUTE,)] * 5 + [(MINUTE, HOUR)] * 5:
        clocked.now += 1_000_000
        admitted += clocked.admit(*asked)[0]
    return admitted


def test_a_hit_of_before_the_clock_stepped_back_ends_no_other_limits_window(
    clocked: Clocked,
) -> None:
    assert _admitted_by_the_minute(clocked) == 3


def test_by_one_clock_for_all_limits_it_would(server: ScriptServer) -> None:
    """The control of the test above."""
    assert _admitted_by_the_minute(Clocked(server, ONE_CLOCK)) == 6


def test_each_limit_says_how_far_its_own_clock_is_ahead(clocked: Clocked) -> None:
    clocked.admit(HOUR)
    clocked.now -= HOUR_US
    reply = clocked.admit(MINUTE, HOUR)
    assert (reply[:2], reply[5], reply[9]) == ([1, clocked.now], 0, HOUR_US)
    assert clocked.server.do("GETRANGE", MINUTE, 4, 10) == clocked.now.to_bytes(7, "big")
    assert clocked.server.do("GETRANGE", HOUR, 4, 10) == BEGIN_US.to_bytes(7, "big")


@pytest.mark.parametrize("back_us", [0, 1, MINUTE_US - 1, MINUTE_US, 3 * MINUTE_US, HOUR_US])
def test_whoever_waits_as_told_after_a_step_back_is_admitted(
    clocked: Clocked, back_us: int
) -> None:
    for _ in range(3):
        clocked.admit(MINUTE)
    clocked.now -= back_us
    denied, _, _, reset_ms, retry_ms, _ = clocked.admit(MINUTE)
    assert (denied, reset_ms) == (0, retry_ms)
    clocked.now += (retry_ms - 1) * 1_000
    assert clocked.admit(MINUTE)[0] == 0
    clocked.now += 1_000
    assert clocked.admit(MINUTE)[0] == 1


def test_a_log_that_is_ahead_is_kept_for_as_long_as_its_hits_count(clocked: Clocked) -> None:
    clocked.admit(MINUTE)
    clocked.now -= HOUR_US
    clocked.admit(MINUTE)
    left_ms = clocked.server.do("PTTL", MINUTE)
    assert 3_600_000 < left_ms <= 3_600_000 + 60_000


def test_a_refund_finds_each_limits_hit_under_that_limits_clock(clocked: Clocked) -> None:
    clocked.admit(HOUR)
    clocked.now -= HOUR_US
    now = clocked.now
    clocked.admit(MINUTE, HOUR)
    assert clocked.refund((MINUTE, BEGIN_US), (HOUR, now)) == 0
    assert clocked.refund((MINUTE, now), (HOUR, BEGIN_US)) == 2
    assert [clocked.rigged.total(log) for log in (MINUTE, HOUR)] == [0, 1]


def test_a_refund_does_not_set_a_limits_clock_back(clocked: Clocked) -> None:
    """A hit that has left stays gone; another's of the same time again is not given back for it."""
    clocked.admit(MINUTE)
    clocked.now += MINUTE_US
    clocked.admit(MINUTE)
    assert clocked.refund((MINUTE, clocked.now)) == 1
    clocked.now -= MINUTE_US
    assert clocked.admit(MINUTE)[2:] == [2, 120_000, 0, MINUTE_US]
    assert clocked.refund((MINUTE, BEGIN_US)) == 0


def test_what_a_refund_leaves_makes_way_for_the_next_hit(clocked: Clocked) -> None:
    for _ in range(5):
        clocked.admit(MINUTE)
        assert clocked.refund((MINUTE, clocked.now)) == 1
        clocked.now += 1
    assert clocked.server.do("STRLEN", MINUTE) == 4 + 11
    assert clocked.admit(MINUTE, cost=0)[2:] == [3, 60_000, 0, 0]
