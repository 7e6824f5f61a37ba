"""Renewing a lease while its holder works, at a third of its time, and noticing when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from app.coordination.lease import Lease, LeaseState
from app.coordination.ticker import Ticker
from app.errors import CoordinationError, LockLost
from app.metrics import Metrics

OnLost = Callable[[Lease], None]
"""Told of a loss, on a thread of its own."""

_STUCK_TTLS = 2
_log = structlog.get_logger(__name__)


class Watchdog:
    """Renews the leases it is given, on the ticker's one thread.

    A renewal without an answer is tried again at a tenth of the time, until the lease's own end:
    by then it is lost, whatever the server may say later.

    Args:
        extend: renews a lease in place; raises LockLost or CoordinationError.
    """

    def __init__(self, ticker: Ticker, extend: Callable[[Lease], None], metrics: Metrics) -> None:
        self._ticker, self._extend, self._metrics = ticker, extend, metrics

    def watch(self, lease: Lease, on_lost: OnLost | None = None) -> Watch:
        """Renew `lease` until the watch is ended; call `on_lost` once if it is lost before."""
        return Watch(lease, on_lost, self._extend, self._metrics, self._ticker)


class Watch:
    """One lease under renewal."""

    def __init__(
        self,
        lease: Lease,
        on_lost: OnLost | None,
        extend: Callable[[Lease], None],
        metrics: Metrics,
        ticker: Ticker,
    ) -> None:
        self._lease, self._on_lost, self._extend = lease, on_lost, extend
        self._metrics, self._ticker = metrics, ticker
        self._lock = threading.Lock()
        self._ended = self._stuck = False
        self._plan = ticker.add(time.monotonic() + lease.ttl_ms / 3000, self.turn)

    def end(self) -> None:
        """Stop renewing: the holder releases. A loss found after this is none, but `on_lost` may be
        just being told of one found before.
        """
        with self._lock:
            self._ended = True
            if self._stuck:
                self._metrics.locks_stuck.dec()
        self._ticker.cancel(self._plan)

    def turn(self) -> float | None:
        """Renew, and say when to come again; None once there is nothing left to renew."""
        lease = self._lease
        if self._ended:
            return None
        if lease.state is LeaseState.LOST:
            self._lose("its time was over")
            return None
        try:
            self._extend(lease)
        except LockLost:
            self._lose("the server says so")
            return None
        except CoordinationError as error:
            lease.doubted()
            _log.warning("lock.renewal_failed", lock=lease.name, kind=error.kind)
            return min(time.monotonic() + lease.ttl_ms / 10_000, lease.until)
        self._mark_if_stuck()
        return time.monotonic() + lease.ttl_ms / 3000

    def _lose(self, why: str) -> None:
        with self._lock:
            if self._ended:
                return
            if self._lease.lost():
                self._metrics.locks_lost.inc()
        _log.error("lock.lost", lock=self._lease.name, fence=self._lease.fence, why=why)
        if self._on_lost is not None:  # however long it takes, it holds up no other renewal
            tell = partial(self._tell, self._on_lost)
            threading.Thread(target=tell, name="lock-lost", daemon=True).start()

    def _tell(self, on_lost: OnLost) -> None:
        try:
            on_lost(self._lease)
        except Exception:
            _log.exception("lock.on_lost_failed", lock=self._lease.name)

    def _mark_if_stuck(self) -> None:
        """Held beyond twice its time: perhaps rightly, perhaps by work that hangs."""
        held_s = time.monotonic() - self._lease.since
        with self._lock:
            if self._ended or self._stuck or held_s <= _STUCK_TTLS * self._lease.ttl_ms / 1000:
                return
            self._stuck = True
            self._metrics.locks_stuck.inc()
        _log.warning("lock.stuck", lock=self._lease.name, held_s=round(held_s, 1))
