"""How far an attempt has come: the same figures in the ledger, in the log and on the terminal."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """`rows` done of `total` (None where the job cannot tell) in `seconds`."""

    rows: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second so far."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at this rate; None while nobody can tell."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.rows) / self.rate

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        left = f", {self.left_s:,.0f} s left" if self.left_s is not None else ""
        return f"{self.rows:,}{of} rows, {self.rate:,.0f}/s{left}"
