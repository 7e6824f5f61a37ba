"""Other packages' rate limits on the same server, in the shapes that the benchmark compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from limits import parse
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from throttled import RateLimiterType, RedisStore, Throttled, per_duration

from app.coordination.rates import Limit

Decide = Callable[[], object]
"""One decision, with what the headers of an answer tell."""


def half_full_stock(url: str, limits: Sequence[Limit]) -> Decide:
    """As Flask-Limiter does it: a hit for each moving window, and one look for the headers."""
    items = [parse(f"{limit.amount} per {limit.window_ms // 1_000} second") for limit in limits]
    windows = MovingWindowRateLimiter(RedisStorage(url))
    for item in items:
        for _ in range(item.amount // 2):
            windows.hit(item, "half")

    def decide() -> object:
        for item in items:
            windows.hit(item, "half")
        return windows.get_window_stats(items[0], "half")

    return decide


def half_full_throttled_py(url: str, limit: Limit) -> Decide:
    """Its sliding window: two counters, the older one weighted by how much of it is left.

    Its `redis` extra, which is not installed, asks for redis-py below 8; it runs on ours.
    """
    window = Throttled(
        using=RateLimiterType.SLIDING_WINDOW.value,
        quota=per_duration(timedelta(milliseconds=limit.window_ms), limit.amount),
        store=RedisStore(server=url),
    )
    window.limit("half", cost=limit.amount // 2)
    return lambda: window.limit("half").state
