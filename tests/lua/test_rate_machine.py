"""Never over: whatever the order of arrivals, refunds, resets and steps of the clock.

`rate_machine` says what is held against what. Faults planted in the scripts are found by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import redis

from app.coordination.scripts import Arg
from tests.lua.conftest import ScriptServer
from tests.lua.rate_machine import drive
from tests.lua.rate_rigged import ONE_CLOCK, Faults
from tests.support.redis_servers import Valkey

FAULTS: Mapping[str, Faults] = {
    "a refund that does not know of resets": {
        "rate_refund.v1": [("taken_at <= reset_at or ", "")],
    },
    "a refund that looks neither at the window nor at the cell": {
        "rate_refund.v1": [
            (" or taken_at + window <= now", ""),
            ("return newest == taken or (shared and", "return true or (shared and"),
        ],
    },
    "a refund that takes from one entry only": {
        "rate_refund.v1": [
            ("given, at = given + part, at + ENTRY", "given, cost, at = part, 0, at + ENTRY")
        ],
    },
    "a merged entry that keeps the time of its oldest hit": {
        "rate_admit.v2": [("hits, keep = cost + count", "now, hits, keep = newest, cost + count")],
    },
    "hits that share an entry where the limit is to be exact": {
        "rate_admit.v2": [(" and mode % 2 == 0", "")],
    },
    "an old release that shares entries of small limits": {
        "rate_admit.v1": [("limit > CELLS and ", "")],
    },
    "a denied request that is counted by the limits that had room": {
        "rate_admit.v2": [("if reply[1] == 0 then return reply end", "")],
    },
    "a hit that stays a microsecond too short": {
        "rate_admit.v2": [
            ("while oldest + window <= now do", "while oldest + window <= now + 1 do")
        ],
    },
    "a clock that follows the server's back": {
        "rate_admit.v2": [("if newest > now then now = newest end", "")],
    },
    "one clock for all limits": ONE_CLOCK,
    "a wait that begins at the limit's own clock": {
        "rate_admit.v2": [
            ("time_at(log, from) + window - time", "time_at(log, from) + window - now")
        ],
    },
    "a refund that sets a limit's clock back": {
        "rate_refund.v1": [
            ("part < hits or is_newest", "part < hits"),
            (
                "sub(log, at), 'KEEPTTL')",
                "sub(log, at), 'KEEPTTL')"
                " if kept .. sub(log, at) == '' then redis.call('DEL', KEYS[i]) end",
            ),
        ],
    },
    "a shadow limit that denies": {
        "rate_admit.v2": [("retry ~= 0 and not shadow", "retry ~= 0")],
    },
    "a probe that takes": {"rate_admit.v2": [("mode < 4 and ", "")]},
    "a reset that leaves the log": {
        "rate_reset.v1": [("redis.call('DEL', KEYS[i])", "")],
    },
}


class Plain:
    """One server, as the machine needs it."""

    def __init__(self, raw: redis.Redis) -> None:
        self._raw = raw

    def do(self, *command: Arg) -> Any:
        return self._raw.execute_command(*command)


def test_never_over_and_hardly_under(server: ScriptServer) -> None:
    drive(server, examples=60)


@pytest.mark.soak
def test_never_over_and_hardly_under_at_length(server: ScriptServer) -> None:
    drive(server, examples=2_000, steps=60)


# The others want many examples before they show.
SOON = [
    "a refund that does not know of resets",
    "a refund that takes from one entry only",
    "a merged entry that keeps the time of its oldest hit",
    "a denied request that is counted by the limits that had room",
    "a clock that follows the server's back",
    "one clock for all limits",
    "a wait that begins at the limit's own clock",
    "a shadow limit that denies",
    "a probe that takes",
    "a reset that leaves the log",
]


@pytest.mark.parametrize(
    "fault",
    [each if each in SOON else pytest.param(each, marks=pytest.mark.soak) for each in FAULTS],
)
def test_a_planted_fault_is_found(valkey: Valkey, fault: str) -> None:
    """The control of the test above."""
    with valkey.client(decode_responses=False) as raw, pytest.raises(AssertionError):
        drive(Plain(raw), 20_000, FAULTS[fault])
