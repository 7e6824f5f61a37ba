"""A lease: the promise that a name is one's own, with an end, and what is known of it meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

from app.errors import LockLost


class LeaseState(StrEnum):
    """What the holder may believe.

    `UNKNOWN`: the last renewal got no answer; the lease still stands by its own time. `LOST`: that
    time is over, or the server said that the lease is another's or nobody's. Never left again.
    """

    HELD = "held"
    UNKNOWN = "unknown"
    LOST = "lost"


class Lease:
    """A lock held until `until`, this process's monotonic seconds, counted from before the asking.

    Look at `ensure_held()` between pieces of work, and hand `fence` to whatever stores the result:
    a process can be stopped between the look and the write, and only the store can refuse it then.

    Attributes:
        fence: strictly rising for each name; None from a quorum of servers, which cannot mint one,
            and where nothing protects the passage.
        protected: False where Redis was away and the caller chose `on_loss="open"`.
    """

    def __init__(
        self,
        name: str,
        token: str,
        *,
        fence: int | None,
        ttl_ms: int,
        until: float,
        protected: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.token, self.fence, self.ttl_ms = name, token, fence, ttl_ms
        self.protected, self._clock = protected, clock
        self.since = clock()
        self._until, self._lost, self._in_doubt = until, False, False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Lease {self.name!r} fence={self.fence} {self.state}>"

    @property
    def until(self) -> float:
        return self._until

    @property
    def state(self) -> LeaseState:
        if not self.protected:
            return LeaseState.UNKNOWN
        if self._lost or self._clock() >= self._until:
            return LeaseState.LOST
        return LeaseState.UNKNOWN if self._in_doubt else LeaseState.HELD

    def ensure_held(self) -> None:
        """Raises LockLost once the lease is lost, by the server's word or by its own time.

        An unprotected passage never loses what it does not have.
        """
        if self.protected and self.state is LeaseState.LOST:
            raise LockLost(f"The lease of {self.name!r} is lost.")

    def renewed(self, until: float) -> None:
        """The server has pushed its end ahead; a lease that was lost meanwhile stays so."""
        with self._lock:
            if self.state is LeaseState.LOST:
                return
            self._until, self._in_doubt = until, False

    def doubted(self) -> None:
        """A renewal got no answer."""
        self._in_doubt = True

    def lost(self) -> bool:
        """It is no longer this token's; True for the first who says so, who counts it."""
        with self._lock:
            first, self._lost = not self._lost, True
            return first
