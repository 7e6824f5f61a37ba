"""A circuit breaker per purpose and process, so that a lost Redis costs a request next to nothing.

Closed: calls go through; the last calls are remembered. Open: calls are refused for `open_s`.
Half open: exactly one call is let through as the probe, and its outcome alone decides, not that of
a call from before. The lock guards bookkeeping only and is never held during a call.
Pattern: M. Nygard, "Release It!", chapter 5.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum


class State(Enum):
    """As the metric shows it."""

    CLOSED = 0.0
    HALF_OPEN = 0.5
    OPEN = 1.0


class Breaker:
    """Counts failures in a sliding window; one instance for each purpose.

    Args:
        failures: how many failures within the window open it, if they are half of the calls.
        window_s: how long a call is remembered, seconds.
        calls: how many calls are remembered at most.
        open_s: how long it refuses before it tries one call, seconds.
        clock: monotonic seconds.
        on_change: told each new state, outside the lock.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        window_s: float = 10.0,
        calls: int = 20,
        open_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[State], None] = lambda _state: None,
    ) -> None:
        self._failures, self._window_s, self._open_s = failures, window_s, open_s
        self._clock, self._on_change = clock, on_change
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, bool]] = deque(maxlen=calls)
        self._state = State.CLOSED
        self._until = 0.0
        self._prober = 0  # the thread whose call is the probe

    @property
    def state(self) -> State:
        return self._state

    def admits(self) -> bool:
        """Whether a call may go. Whoever is admitted must report with one of the three below."""
        if self._state is State.CLOSED:
            return True
        with self._lock:
            if self.state is State.CLOSED:  # closed by another thread meanwhile
                return True
            # While half open, `until` is when a probe that never reported is replaced.
            if self._clock() < self._until:
                return False
            self._until = self._clock() + self._open_s
            self._prober = threading.get_ident()
            changed = self._move(State.HALF_OPEN)
        self._tell(changed)
        return True

    def succeeded(self) -> None:
        """The server answered; a refusal by a healthy server is an answer too."""
        with self._lock:
            changed = False
            if self._is_probe():
                self._recent.clear()
                changed = self._move(State.CLOSED)
            self._recent.append((self._clock(), True))
        self._tell(changed)

    def failed(self) -> None:
        """The server did not answer, or said that it cannot serve anybody."""
        with self._lock:
            now = self._clock()
            self._recent.append((now, False))
            changed = False
            if self._is_probe() or (self._state is State.CLOSED and self._is_too_much(now)):
                self._until = now + self._open_s
                changed = self._move(State.OPEN)
        self._tell(changed)

    def abstained(self) -> None:
        """The call never reached the server: nothing is learnt, and the next may probe at once."""
        with self._lock:
            if self._is_probe():
                self._until = 0.0

    def _is_probe(self) -> bool:
        return self._state is State.HALF_OPEN and self._prober == threading.get_ident()

    def _is_too_much(self, now: float) -> bool:
        recent = [ok for at, ok in self._recent if now - at <= self._window_s]
        bad = recent.count(False)
        return bad >= self._failures and bad * 2 >= len(recent)

    def _move(self, state: State) -> bool:
        changed, self._state = self._state is not state, state
        return changed

    def _tell(self, changed: bool) -> None:
        if changed:
            self._on_change(self._state)
