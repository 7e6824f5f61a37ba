"""Named locks with a lease, a fence and waiters who are woken.

A lease is a promise with an end (`lease`). It is renewed while a `hold` block runs (`watchdog`),
and kept on one primary (`lock_store`) or by a majority of independent servers (`redlock`).

The token makes everything repeatable: a call whose answer was lost is made again with the same
token and gets the same lease and fence, and what may be held by a token that its caller has given
up is released by it (a phantom would keep everybody out until it expired).

Source: M. Kleppmann, "How to do distributed locking", 2016, for the fence; waking one waiter of
many through a list, in the order in which they began to wait, is Redis's own BLPOP.
"""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import structlog

from app.coordination import failures
from app.coordination.lease import Lease, LeaseState
from app.coordination.lock_store import Granted, LockStore, Taken
from app.coordination.ticker import Ticker
from app.coordination.watchdog import OnLost, Watch, Watchdog
from app.errors import CoordinationError, InvalidInput, LockBusy, LockLost
from app.metrics import Metrics

MOST_TTL_MS = 86_400_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
# No wait is longer: a waiter that was woken and died takes its wake-up with it.
_LONGEST_WAIT_S = 5.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.01, 0.25
_log = structlog.get_logger(__name__)


class LockService:
    """Acquire, extend, release and hold locks by name."""

    def __init__(self, store: LockStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._ticker = Ticker("locks")
        self._watchdog = Watchdog(self._ticker, self._renew, metrics)
        self._count_granted = metrics.locks.labels("acquired").inc
        self._count_busy = metrics.locks.labels("busy").inc

    def acquire(
        self,
        name: str,
        *,
        ttl_ms: int,
        retries: int | None = 0,
        wait_ms: int = 10_000,
        token: str | None = None,
    ) -> Lease:
        """Take the lock; nothing renews the lease but `extend` (`hold` does it by itself).

        Args:
            name: 1 to 128 letters, digits and `._:/@-`.
            ttl_ms: after how long it passes on if it is not renewed, ms.
            retries: tries after the first one; 0 answers at once, None means as many as fit.
            wait_ms: how long all tries may take together, ms, where `retries` is not 0. A release
                wakes the one who waits longest; a dead holder's lock is tried for at the end of its
                lease.
            token: the caller's own, to get its own lease and fence back; by default a new one. A
                majority of servers takes none.

        Raises:
            LockBusy: another token holds it.
            CoordinationError: Redis gave no answer. A lease that it may have given to a token made
                here is given back; one of the caller's own token may be held since before.
            InvalidInput: a name, time or token that cannot be.
        """
        check_name(name)
        _check_times(ttl_ms, wait_ms)
        if token is not None and not self._store.repeatable:
            raise InvalidInput("Locks kept by a majority of servers take no token of one's own.")
        asked = _Asked(name, token or secrets.token_hex(16), ttl_ms)
        tries, doubtful = _Tries(retries, wait_ms), False
        while True:
            last = tries.is_last
            # Nobody waits after the last try: who was noted is so for 1 ms more, not for good.
            said = self._ask(asked, wait_ms=min(tries.number, 1) if last else tries.wait_ms)
            if isinstance(said, Granted):
                self._metrics.lock_wait_seconds.observe(tries.passed_s)
                return Lease(*asked[:2], fence=said.fence, ttl_ms=ttl_ms, until=said.until)
            failed = said if isinstance(said, CoordinationError) else None
            doubtful |= failed is not None and failures.may_have_run(failed)
            if last or (failed is not None and failures.lasts(failed)):
                break
            self._wait(name, said, tries)
            tries.number += 1
            if not self._store.repeatable:
                asked = asked._replace(token=secrets.token_hex(16))
        if doubtful and token is None and self._store.repeatable:
            self._give_back(asked)
        raise failed or _busy(name)

    def extend(self, lease: Lease) -> None:
        """Give the lease its whole time again, counted from now.

        Raises:
            LockLost: it is another's or nobody's by now; stop the work.
            CoordinationError: unknown; the lease still ends at its own `until`.
        """
        if not lease.protected:
            return
        try:
            lease.ensure_held()  # or what is over for its holder would be prolonged for nobody
            self._renew(lease)
        except LockLost:
            if lease.lost():
                self._metrics.locks_lost.inc()
            raise

    def release(self, lease: Lease) -> bool:
        """Give the lock back and wake a waiter; False if it was no longer the lease's.

        Raises:
            CoordinationError: Redis gave no answer; the lease ends by itself.
        """
        owed_ms = 0 if self._store.repeatable else lease.ttl_ms
        return self._release(lease, owed_ms=owed_ms)

    @contextlib.contextmanager
    def hold(
        self,
        name: str,
        *,
        ttl_ms: int,
        on_loss: Literal["open", "closed"],
        retries: int | None = 0,
        wait_ms: int = 10_000,
        on_lost: OnLost | None = None,
    ) -> Iterator[Lease]:
        """Hold the lock for a block, or for each call of a function that this decorates.

        The lease is renewed at a third of its time. A block longer than one piece of work calls
        `lease.ensure_held()` before each: a lost lease does not stop it by itself.

        Args:
            on_loss: without Redis, `open` goes on unprotected (counted, logged), `closed` raises.
            on_lost: called once, on a thread of its own, when the lease is lost within the block.

        Raises:
            LockBusy: another holds it.
            CoordinationError: Redis gave no answer, and `on_loss` is `closed`.
            InvalidInput: a name or time that cannot be.
        """
        try:
            lease = self.acquire(name, ttl_ms=ttl_ms, retries=retries, wait_ms=wait_ms)
        except CoordinationError as error:
            if on_loss == "closed":
                raise
            lease = self._unprotected(name, ttl_ms, error)
        if not lease.protected:
            yield lease
            return
        watch = self._watchdog.watch(lease, on_lost)
        try:
            yield lease
        finally:
            self._let_go(lease, watch)

    def _unprotected(self, name: str, ttl_ms: int, error: CoordinationError) -> Lease:
        self._metrics.locks_unprotected.inc()
        _log.warning("lock.unprotected", lock=name, kind=error.kind)
        return Lease(name, "", fence=None, ttl_ms=ttl_ms, until=0, protected=False)

    def _let_go(self, lease: Lease, watch: Watch) -> None:
        watch.end()
        with contextlib.suppress(CoordinationError):
            self._release(lease, owed_ms=lease.ttl_ms)

    def _release(self, lease: Lease, *, owed_ms: int) -> bool:
        self._metrics.lock_hold_seconds.observe(time.monotonic() - lease.since)
        return self._store.release(lease.name, lease.token, owed_ms=owed_ms)

    def _renew(self, lease: Lease) -> None:
        until = self._store.extend(lease.name, lease.token, ttl_ms=lease.ttl_ms)
        if until is None:
            raise LockLost(f"The lease of {lease.name!r} is no longer this holder's.")
        lease.renewed(until)
        if lease.state is LeaseState.LOST:  # its time ran out while it was being renewed
            with contextlib.suppress(CoordinationError):
                self._store.release(lease.name, lease.token)
        lease.ensure_held()

    def _ask(self, asked: _Asked, *, wait_ms: int) -> Granted | Taken | CoordinationError:
        name, token, ttl_ms = asked
        try:
            said = self._store.take(name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)
        except CoordinationError as error:
            self._metrics.locks.labels(error.kind).inc()
            return error
        (self._count_granted if isinstance(said, Granted) else self._count_busy)()
        return said

    def _wait(self, name: str, said: Taken | CoordinationError, tries: _Tries) -> None:
        """Until a release wakes us or the lease ends; by the clock where that is not to be had."""
        if isinstance(said, Taken):
            # Jitter behind the end: all who wait for a dead holder would ask at once.
            seconds = said.left_ms / 1000 + tries.jitter_s()
            if self._store.wait(name, min(seconds, tries.wait_ms / 1000)):
                return
        tries.back_off()

    def _give_back(self, asked: _Asked) -> None:
        """An acquisition without an answer may have happened, and nobody else knows its token."""
        name, token, ttl_ms = asked
        with contextlib.suppress(CoordinationError):
            self._store.release(name, token, owed_ms=ttl_ms, may_come=True)


class _Asked(NamedTuple):
    name: str
    token: str
    ttl_ms: int


class _Tries:
    """How long one acquisition may still go on. `number` is that of the try, from 0."""

    def __init__(self, retries: int | None, wait_ms: int) -> None:
        self._retries, self._started, self.number = retries, time.monotonic(), 0
        self._deadline = self._started + wait_ms / 1000

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def wait_ms(self) -> int:
        """The longest that the next wait may be, at least 1."""
        left_s = self._deadline - time.monotonic()
        return max(1, int(1000 * min(left_s, _LONGEST_WAIT_S)))

    @property
    def is_last(self) -> bool:
        out_of_tries = self._retries is not None and self.number >= self._retries
        return out_of_tries or time.monotonic() >= self._deadline

    def jitter_s(self) -> float:
        """Full jitter under an exponential bound (M. Brooker, "Exponential Backoff and Jitter")."""
        bound_s = min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2 ** min(self.number, 10))
        return random.uniform(0, bound_s)

    def back_off(self) -> None:
        time.sleep(min(self.jitter_s(), self.wait_ms / 1000))


def _busy(name: str) -> LockBusy:
    return LockBusy(f"The lock {name!r} is taken.")


def check_name(name: str) -> str:
    """The name, if it can be a lock's.

    Raises:
        InvalidInput: it is empty, too long, or has a character that no name has.
    """
    if not _NAME.fullmatch(name):
        takes = "1 to 128 letters, digits and ._:/@-"
        raise InvalidInput(f"A lock's name is {takes}, not {name!r:.200}.")
    return name


def _check_times(ttl_ms: int, wait_ms: int) -> None:
    if wait_ms < 0:
        raise InvalidInput(f"Nobody can wait for {wait_ms} ms.")
    if type(ttl_ms) is not int or not 1 <= ttl_ms <= MOST_TTL_MS:
        raise InvalidInput(f"A lock's time is 1 to {MOST_TTL_MS} whole ms, not {ttl_ms!r}.")
