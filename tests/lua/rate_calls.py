"""Replies of both releases of rate_admit, in one form."""

from __future__ import annotations

from collections.abc import Sequence


def as_v1(reply: Sequence[int]) -> list[int]:
    """A reply of v2 as v1 would put it; the clock is the first limit's own."""
    admitted, time_us, *told = reply
    limits = [told[i : i + 3] for i in range(0, len(told), 4)]
    return [admitted, time_us + told[3], *(number for limit in limits for number in limit)]
