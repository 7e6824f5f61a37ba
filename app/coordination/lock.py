"""Named locks with a lease and a fence, on one primary.

A lease is a promise with an end: hold it, look at `ensure_held()` between pieces of work, and hand
`fence` to whatever stores the result, so that it can refuse a holder who woke up too late
(M. Kleppmann, "How to do distributed locking", 2016). Fences rise strictly for each name.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.errors import CoordinationError, LockBusy, LockLost, RedisUnavailable
from app.metrics import Metrics

_FENCE_TTL_MS = 7 * 86_400_000
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.01, 1.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock held until `until` (this process's monotonic seconds).

    `fence` is None where nothing protects the passage: Redis was away and the caller chose
    `on_loss="open"`.
    """

    name: str
    token: str
    fence: int | None
    ttl_ms: int
    until: float

    def ensure_held(self) -> None:
        """Raises LockLost once the lease's own time is over, by this process's clock."""
        if self.fence is not None and time.monotonic() >= self.until:
            raise LockLost(f"The lease of {self.name!r} has run out.")


class LockService:
    """Acquire, extend and release locks by name.

    Args:
        holder: this instance, for operators to read.
    """

    def __init__(
        self, client: Scripting, scripts: ScriptRegistry, metrics: Metrics, *, holder: str
    ) -> None:
        self._client, self._metrics, self._holder = client, metrics, holder
        self._acquire = scripts["lock_acquire.v1"]
        self._release = scripts["lock_release.v1"]
        self._extend = scripts["lock_extend.v1"]

    def acquire(
        self, name: str, *, ttl_ms: int, retries: int = 0, token: str | None = None
    ) -> Lease:
        """Take the lock, trying again up to `retries` times with full jitter between the tries.

        The same `token` acquiring again gets its own lease and fence back, so that a caller whose
        answer was lost may ask again.

        Raises:
            LockBusy: another token holds it.
            CoordinationError: Redis gave no answer. A lease that it may have given to a token made
                here is given back; one of the caller's own token may be held since before.
        """
        made_here = token is None
        token = token or secrets.token_hex(16)
        for attempt in range(retries + 1):
            lease = self._try(name, token, ttl_ms, undo=made_here)
            if lease:
                return lease
            if attempt < retries:
                most = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2**attempt)
                time.sleep(random.uniform(0, most))
        raise LockBusy(f"The lock {name!r} is taken.")

    def extend(self, lease: Lease) -> Lease:
        """The same lease with its whole time again, counted from now.

        Raises:
            LockLost: it is another's or nobody's by now; stop the work.
            CoordinationError: unknown; the lease still ends at its own `until`.
        """
        asked = time.monotonic()
        call = Call(self._extend, [keys.lock(lease.name).lease], [lease.token, lease.ttl_ms])
        if not self._client.call(call):
            self._metrics.locks.labels("lost").inc()
            raise LockLost(f"The lease of {lease.name!r} is no longer this holder's.")
        return Lease(
            lease.name, lease.token, lease.fence, lease.ttl_ms, _until(asked, lease.ttl_ms)
        )

    def release(self, lease: Lease) -> bool:
        """Give the lock back; False if it was no longer the lease's.

        Raises:
            CoordinationError: Redis gave no answer; the lease ends by itself.
        """
        call = Call(self._release, [keys.lock(lease.name).lease], [lease.token])
        return bool(self._client.call(call))

    @contextlib.contextmanager
    def hold(
        self, name: str, *, ttl_ms: int, on_loss: Literal["open", "closed"], retries: int = 0
    ) -> Iterator[Lease]:
        """Hold the lock for a block.

        Args:
            on_loss: without Redis, `open` goes on unprotected (counted), `closed` raises.

        Raises:
            LockBusy: another holds it.
            CoordinationError: Redis gave no answer, and `on_loss` is `closed`.
        """
        try:
            lease = self.acquire(name, ttl_ms=ttl_ms, retries=retries)
        except CoordinationError:
            if on_loss == "closed":
                raise
            self._metrics.locks_unprotected.inc()
            yield Lease(name, "", None, ttl_ms, _until(time.monotonic(), ttl_ms))
            return
        try:
            yield lease
        finally:
            with contextlib.suppress(CoordinationError):
                self.release(lease)

    def _try(self, name: str, token: str, ttl_ms: int, *, undo: bool) -> Lease | None:
        lock_keys = keys.lock(name)
        args: list[Arg] = [token, ttl_ms, self._holder, max(_FENCE_TTL_MS, 2 * ttl_ms)]
        asked = time.monotonic()
        try:
            taken, fence, _left_ms = self._client.call(Call(self._acquire, lock_keys, args))
        except CoordinationError as error:
            self._metrics.locks.labels("error").inc()
            if undo and isinstance(error, RedisUnavailable):
                self._undo(name, token)
            raise
        self._metrics.locks.labels("acquired" if taken else "busy").inc()
        return Lease(name, token, int(fence), ttl_ms, _until(asked, ttl_ms)) if taken else None

    def _undo(self, name: str, token: str) -> None:
        """An acquisition without an answer may have happened; nobody may wait for that phantom."""
        with contextlib.suppress(CoordinationError):
            self._client.call(Call(self._release, [keys.lock(name).lease], [token]))


def _until(asked: float, ttl_ms: int) -> float:
    # Counted from before the question: the server's lease can only end later than ours.
    return asked + ttl_ms / 1000
