"""When slots begin. A slot is named by the second of its beginning, since the epoch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim

_FIRST_SPAN_S = 2 * 86_400


class Schedule(Protocol):
    """All times in seconds since the epoch. `str()` is for operators to read."""

    def latest(self, now_s: float) -> int:
        """The newest slot that has begun by `now_s`."""
        ...

    def after(self, now_s: float) -> int:
        """The next slot that begins after `now_s`."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """A slot at every multiple of `seconds` since the epoch: the same for every time zone."""

    seconds: int

    def __str__(self) -> str:
        return f"every {self.seconds} s"

    def latest(self, now_s: float) -> int:
        return int(now_s // self.seconds) * self.seconds

    def after(self, now_s: float) -> int:
        return self.latest(now_s) + self.seconds


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, on the clocks of `zone` (an IANA name).

    Where summer time begins or ends it does as Debian's cron: a fixed time that is left out runs
    right after the gap, one that comes twice runs once; wildcards go by real time (`cronsim`).

    Raises:
        CronSimError: the expression is none.
        ZoneInfoNotFoundError: there is no such zone.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        self.after(0)

    def __str__(self) -> str:
        return f"{self.expression} ({self.zone})"

    def latest(self, now_s: float) -> int:
        # Found forwards: looking back, `cronsim` misses what began in the first of two equal hours.
        span_s = _FIRST_SPAN_S
        while True:
            slot, latest = self.after(now_s - span_s), None
            while slot <= now_s:
                latest, slot = slot, self.after(slot)
            if latest is not None:
                return latest
            span_s *= 8

    def after(self, now_s: float) -> int:
        return _epoch(next(CronSim(self.expression, self._at(int(now_s)))))

    def _at(self, epoch_s: int) -> datetime:
        return datetime.fromtimestamp(epoch_s, UTC).astimezone(ZoneInfo(self.zone))


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())
