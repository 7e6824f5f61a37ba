"""Where leases are kept: what the lock service needs of it, and the one-primary kind.

The other kind, a quorum of independent servers, is in `redlock`.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.lock_debts import Debts
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.errors import CoordinationError

_FENCE_TTL_MS = 7 * 86_400_000
_WAKE_TTL_MS = 10_000


class Granted(NamedTuple):
    """`until`: monotonic seconds, counted from before the question: the server's end is later."""

    fence: int | None
    until: float


class Taken(NamedTuple):
    """Another holds it, for `left_ms` more unless it is renewed."""

    left_ms: int


class LockStore(Protocol):
    """Every method raises CoordinationError where there was no usable answer.

    `repeatable`: whether a token that has asked may ask again, and gets its own lease back.
    """

    @property
    def repeatable(self) -> bool: ...

    def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
        """Ask once. `wait_ms`: how long the caller will then stay in `wait`; 0 not at all."""
        ...

    def extend(self, name: str, token: str, *, ttl_ms: int) -> float | None:
        """The lease's new end, monotonic seconds; None if it is no longer the token's."""
        ...

    def release(self, name: str, token: str, *, owed_ms: int = 0, may_come: bool = False) -> bool:
        """Whether it was the token's until now.

        Args:
            owed_ms: without an answer, go on in the background for so long. Only for a token that
                nobody asks with again: a release that comes late would take a new lease of its own.
            may_come: an acquisition of this token was not heard, and may come only now.
        """
        ...

    def wait(self, name: str, seconds: float) -> bool:
        """Block until a release wakes this caller or the time is over; False if it cannot."""
        ...


class PrimaryStore:
    """Leases on one primary: a server, a Sentinel group's master or a cluster's slot.

    Args:
        holder: this instance, for operators to read.
    """

    repeatable = True

    def __init__(self, client: Scripting, scripts: ScriptRegistry, *, holder: str) -> None:
        self._client, self._holder = client, holder
        self._debts = Debts()
        self._take = scripts["lock_acquire.v2"]
        self._extend = scripts["lock_extend.v1"]
        self._release = scripts["lock_release.v2"]

    def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
        names = keys.lock(name)
        fence_ttl = max(_FENCE_TTL_MS, 2 * ttl_ms)
        args: list[Arg] = [token, ttl_ms, self._holder, fence_ttl, wait_ms]
        asked = time.monotonic()
        granted, fence, left_ms = self._client.call(Call(self._take, names, args))
        return Granted(int(fence), asked + ttl_ms / 1000) if granted else Taken(int(left_ms))

    def extend(self, name: str, token: str, *, ttl_ms: int) -> float | None:
        asked = time.monotonic()
        call = Call(self._extend, [keys.lock(name).lease], [token, ttl_ms])
        return asked + ttl_ms / 1000 if self._client.call(call) else None

    def release(self, name: str, token: str, *, owed_ms: int = 0, may_come: bool = False) -> bool:
        names = keys.lock(name)
        call = Call(self._release, [names.lease, names.waiters, names.wake], [token, _WAKE_TTL_MS])

        def release() -> bool:
            return bool(self._client.call(call))

        try:
            released = release()
        except CoordinationError:
            self._debts.owe(release, for_ms=owed_ms, may_come=may_come)
            raise
        if may_come and not released:
            self._debts.owe(release, for_ms=owed_ms, may_come=True)
        return released

    def wait(self, name: str, seconds: float) -> bool:
        try:
            self._client.block(keys.lock(name).wake, seconds)
        except CoordinationError:
            return False
        return True
