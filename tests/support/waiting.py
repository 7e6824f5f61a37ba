"""Waiting for a condition, in place of sleeping for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05


def eventually(
    condition: Callable[[], T], *, timeout_s: float = 10.0, what: str = "the condition"
) -> T:
    """Call `condition` until its answer is truthy, and return that answer.

    Arguments:
        timeout_s: seconds after which waiting is given up.
        what: what was waited for, as the failure names it.
    Raises:
        AssertionError: when the time is over; it shows the last answer.
        Whatever `condition` raises, at once.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s (last answer: {answer!r})")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
