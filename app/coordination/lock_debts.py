"""Releases that were not heard, or came before what they release: made again in the background.

A lease that nobody knows of (a phantom) would keep everybody out until it expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from app.coordination.ticker import Ticker
from app.errors import CoordinationError

_AGAIN_S = 0.25
# After its giving-up an acquisition may still be on its way: in a proxy, or before a hung server.
_LATE_S = (1.0, 5.0, 30.0)


class Debts:
    """The releases that one server is still owed; on a thread of their own, so that a hung server
    holds up no renewal.
    """

    def __init__(self) -> None:
        self._ticker = Ticker("lock-debts")

    def owe(self, release: Callable[[], bool], *, for_ms: int, may_come: bool) -> None:
        """Call `release` until it is heard, and until it had something to release if `may_come`.

        Args:
            release: whether there was something; raises CoordinationError if it was not heard.
            for_ms: give up after so long, ms: a lease ends by itself.
        """
        began = time.monotonic()
        late = iter(_LATE_S if may_come else ())

        def turn() -> float | None:
            if time.monotonic() >= began + for_ms / 1000:
                return None
            try:
                released = release()
            except CoordinationError:
                return time.monotonic() + _AGAIN_S
            next_s = None if released else next(late, None)
            return None if next_s is None else began + next_s

        if for_ms > 0:
            self._ticker.add(began + _AGAIN_S, turn)
