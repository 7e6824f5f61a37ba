"""Two clocks of a Redis call: the deadline of one operation, and the budget of one request.

redis-py's `socket_timeout` is per read, so a server that drips its answer byte by byte can hold a
caller for ever. `DeadlineSocket` gives every read and write what is left of the operation. All
Redis work of one request shares a budget, which counts only time spent waiting for Redis.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection

_operation = threading.local()
_budget: ContextVar[Budget | None] = ContextVar("redis_budget", default=None)


class Budget:
    """What one request may still wait for Redis, seconds."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    def spend(self, seconds: float) -> None:
        self.left_s -= seconds


def start_budget(seconds: float) -> None:
    """Give the current request a budget; `end_budget` takes it away."""
    _budget.set(Budget(seconds))


def end_budget() -> None:
    _budget.set(None)


@contextlib.contextmanager
def no_budget() -> Iterator[None]:
    """What must be tried even if the request has waited long enough: its own time-out holds."""
    token = _budget.set(None)
    try:
        yield
    finally:
        _budget.reset(token)


def current_budget() -> Budget | None:
    """The running request's budget; None outside requests, where only purposes' timeouts hold."""
    return _budget.get()


class operation:  # noqa: N801  used as `with operation(0.05):`
    """Everything this thread does on a `DeadlineSocket` inside must end within `seconds`."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _operation.until = time.monotonic() + self._seconds

    def __exit__(self, *_: object) -> None:
        _operation.until = None


def _left() -> float | None:
    until = getattr(_operation, "until", None)
    if until is None:
        return None
    left = cast(float, until) - time.monotonic()
    if left <= 0:
        raise TimeoutError("the operation's deadline has passed")
    return left


class DeadlineSocket:
    """A socket whose reads and writes end with the thread's operation."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._set_by_send = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def sendall(self, *args: Any) -> None:
        self._arm()
        self._sock.sendall(*args)
        self._set_by_send = True

    def recv_into(self, *args: Any) -> int:
        # The first read follows the write within microseconds: its time-out is still true.
        if self._set_by_send:
            self._set_by_send = False
        else:
            self._arm()
        return self._sock.recv_into(*args)

    def is_quiet(self) -> bool:
        """Whether there is nothing to read: no late reply, and not the end of the connection."""
        buffered = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        return not buffered and not self._poll.poll(0)

    def _arm(self) -> None:
        left = _left()
        if left is not None:
            self._sock.settimeout(left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class DeadlineConnection(Connection):
    def _connect(self) -> Any:
        return DeadlineSocket(super()._connect())  # type: ignore[no-untyped-call]  # untyped there


class DeadlineSSLConnection(SSLConnection):
    def _connect(self) -> Any:
        return DeadlineSocket(super()._connect())  # type: ignore[no-untyped-call]  # untyped there


class DeadlineUnixConnection(UnixDomainSocketConnection):
    def _connect(self) -> Any:
        return DeadlineSocket(super()._connect())  # type: ignore[no-untyped-call]  # untyped there
