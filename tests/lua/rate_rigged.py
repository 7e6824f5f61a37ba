"""The rate-limit scripts with the test's own clock, and perhaps with a planted fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.coordination.scripts import Arg, ScriptRegistry

OWN_CLOCK = ("redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}")
IDS = ("rate_admit.v1", "rate_admit.v2", "rate_refund.v1", "rate_reset.v1")
Faults = Mapping[str, Sequence[tuple[str, str]]]
"""By script: what is replaced by what."""

# What rate_admit.v2 did once: the clock of all limits is the newest hit of any.
ONE_CLOCK: Faults = {
    "rate_admit.v2": [
        (
            "local reply, starts = {1, time}, {}",
            """local reply, starts, all = {1, time}, {}, time
            for i = 1, #KEYS do
              local log = logs[i]
              if log then all = math.max(all, time_at(log, #log - ENTRY + 1)) end
            end""",
        ),
        (
            "total, now, oldest = logs[i] or '', HEAD + 1, 0, time, time",
            "total, now, oldest = logs[i] or '', HEAD + 1, 0, all, all",
        ),
    ]
}


class Commands(Protocol):
    """The server, by plain commands."""

    def do(self, *command: Arg) -> Any: ...


class Rigged:
    """The scripts with the time in their last two arguments."""

    def __init__(self, server: Commands, faults: Faults) -> None:
        self.server = server
        registry = ScriptRegistry.from_folder()
        self._sources = {id_: _planted(registry[id_].source, OWN_CLOCK) for id_ in IDS}
        for id_, each in faults.items():
            self._sources[id_] = _planted(self._sources[id_], *each)

    def run(self, id_: str, names: Sequence[str], args: Sequence[Arg], now_us: int) -> Any:
        clock = divmod(now_us, 1_000_000)
        return self.server.do("EVAL", self._sources[id_], len(names), *names, *args, *clock)

    def total(self, key: str) -> int:
        return int.from_bytes(self.server.do("GETRANGE", key, 0, 3), "big")


def _planted(source: str, *changes: tuple[str, str]) -> str:
    for right, wrong in changes:
        if source.count(right) != 1:  # no AssertionError: it would pass for the fault's being found
            raise LookupError(right)
        source = source.replace(right, wrong)
    return source
