"""The storage that Flask-Limiter asks, which answers from the request's memo."""

from __future__ import annotations

import time

from limits.storage import MovingWindowSupport, Storage

from app.api.rate_memo import memo, split
from app.coordination.rates import Limit, Rates, Standing
from app.errors import CoordinationError, InvalidInput

SCHEME = "taskflow"
MOST_HITS = 2**32 - 1


def limit_of(key: str, amount: int, window_s: int, cost: int) -> Limit:
    """The limit under Flask-Limiter's key.

    Raises:
        InvalidInput: more hits than the log's 4 bytes can count.
    """
    if amount > MOST_HITS:
        raise InvalidInput(f"A rate limit is at most {MOST_HITS}, not {amount}.")
    return Limit(split(key)[1], amount, window_s * 1000, cost)


class ScriptStorage(Storage, MovingWindowSupport):
    """What Flask-Limiter asks: answered from the memo, or decided alone where it is not there.

    A hit by hand is not remembered: who looks at it later wants to know how it stands by then.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  the library's attribute

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, rates: Rates
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._rates = rates
        self.storage = type(rates).__name__  # `flask limiter config` shows it

    @property
    def base_exceptions(self) -> type[Exception]:
        return CoordinationError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether this limit lets the request pass."""
        ours = memo()
        if ours.answers(key):
            standing = ours.standings[key]
            return standing is None or not standing.denied
        ours.clear(key)
        identity, _ = split(key)
        return self._rates.admit(identity, [limit_of(key, limit, expiry, amount)]).admitted

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Start of the window (seconds since the epoch) and hits in it."""
        standing = memo().window(key) if memo().knows(key) else self._look(key, limit, expiry)
        if standing is None:
            return time.time(), 0
        return time.time() + standing.reset_ms / 1000 - expiry, limit - standing.remaining

    def check(self) -> bool:
        return True

    def clear(self, key: str) -> None:
        """Forget what was used up under `key`."""
        identity, name = split(key)
        self._rates.reset(identity, [name])
        memo().clear(key)

    def reset(self) -> int | None:
        raise NotImplementedError("one identity's limits can be reset, not everybody's")

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("every strategy is served by the sliding window")

    def get(self, key: str) -> int:
        raise NotImplementedError("every strategy is served by the sliding window")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("every strategy is served by the sliding window")

    def _look(self, key: str, amount: int, expiry: int) -> Standing | None:
        decision = self._rates.admit(split(key)[0], [limit_of(key, amount, expiry, 0)])
        return decision.standings[0] if decision.standings else None
