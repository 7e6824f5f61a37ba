"""How many processes are alive, so that each knows its share when Redis is lost."""

from __future__ import annotations

import contextlib
import threading
import time

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.scripts import Call, ScriptRegistry
from app.coordination.ticker import Ticker
from app.errors import CoordinationError

BEAT_S, _TTL_MS = 2.0, 10_000


class Fleet:
    """This process among the others. Beats in the background once `join` was called.

    Args:
        identity: this process's.
    """

    def __init__(self, client: Scripting, scripts: ScriptRegistry, *, identity: str) -> None:
        self._client, self._script, self._identity = client, scripts["fleet_beat.v1"], identity
        self._ticker = Ticker("fleet")
        self._lock = threading.Lock()
        self._beating = threading.Lock()  # or a beat on its way would undo the leaving
        self._joined = self._left = False
        self._size = 1

    @property
    def size(self) -> int:
        """How many are alive, as far as was last heard; this one counts always."""
        return self._size

    def join(self) -> None:
        """Begin to beat, in a thread: not before a fork. Again, or after `leave`, does nothing."""
        with self._lock:
            if self._joined or self._left:
                return
            self._joined = True
        self._ticker.add(time.monotonic(), self._turn)

    def leave(self) -> None:
        """Take this process off the list, as it ends, for good; again does nothing."""
        with self._beating:
            if self._left:
                return
            self._left = True
            if self._joined:
                self._beat(0)

    def _turn(self) -> float | None:
        with self._beating:
            if self._left:
                return None
            self._beat(_TTL_MS)
        return time.monotonic() + BEAT_S

    def _beat(self, ttl_ms: int) -> None:
        with contextlib.suppress(CoordinationError):
            call = Call(self._script, [keys.FLEET], [self._identity, ttl_ms])
            self._size = max(1, int(self._client.call(call)))
