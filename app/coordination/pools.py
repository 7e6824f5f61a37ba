"""Connections of one purpose, and the exchange of commands for replies on them.

redis-py makes, authenticates and parses; the pooling and sending here are the hot path, kept to
what it needs: one write carries the whole pipeline, one deadline covers the whole exchange, and a
failing script does not hide the replies of its neighbours. The connection's socket and parser are
therefore used directly: around them redis-py keeps retries, health checks and figures of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, cast

import hiredis
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, ReadOnlyError
from redis.retry import Retry

from app.coordination import deadline, forks
from app.coordination.scripts import Arg
from app.coordination.topology import Address

Command = Sequence[Arg]
# The stub takes only tuples of one element.
_pack = cast("Callable[[tuple[Arg, ...]], bytes]", hiredis.pack_command)


class Pools:
    """Idle connections by address; the one used last is used next.

    Args:
        options: redis-py's connection options without the address (user, password, TLS).
        timeout_s: to connect, and for reads outside an operation's deadline, seconds.
        most: connections in use at most, over all addresses.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout_s: float, most: int) -> None:
        self._options = {
            **options,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        self._most = most
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With no connection; those that were idle are left without a word to the server."""
        # A list's pop and append are atomic; the queue holds a place for each free connection.
        self._idle: dict[Address, list[Any]] = {}
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._most):
            self._places.put(None)

    def exchange(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        """Send all commands in one write and read all replies; a reply may be a ResponseError.

        Raises:
            RedisError, OSError: the exchange broke off; each command may have run.
        """
        try:
            self._places.get_nowait()
        except Empty:
            raise MaxConnectionsError("every connection of this purpose is in use") from None
        try:
            connection = self._take(address)
            try:
                connection._sock.sendall(b"".join([_pack(tuple(each)) for each in commands]))
                read = connection._parser.read_response
                replies = [read() for _ in commands]
            except BaseException:
                # Replies may still be on their way: this connection must serve no other call.
                connection.disconnect()
                self._forget(address)
                raise
            if ReadOnlyError in map(type, replies):
                # Demoted. Its name may lead to the new primary, but only for a new connection.
                connection.disconnect()
                self._forget(address)
            else:
                self._idle[address].append(connection)
            return replies
        finally:
            self._places.put(None)

    def close(self) -> None:
        """Close the idle connections; those in use end with their exchange."""
        for address in list(self._idle):
            self._forget(address)

    def _forget(self, address: Address) -> None:
        """Close what is idle at an address that failed: it may never be asked again."""
        idle = self._idle.get(address, [])
        while idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                idle.pop().disconnect()

    def _take(self, address: Address) -> Any:
        idle = self._idle.setdefault(address, [])
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                connection = self.make(address)
                connection.connect()
                return connection
            if _is_fresh(connection):
                return connection
            connection.disconnect()

    def make(self, address: Address) -> Any:
        """A connection that is not connected yet."""
        options = dict(self._options)
        tls = options.pop("ssl", False)
        kind: Any = deadline.DeadlineSSLConnection if tls else deadline.DeadlineConnection
        where: dict[str, Any] = {"host": address.host, "port": address.port}
        if not address.port:
            kind, where = deadline.DeadlineUnixConnection, {"path": address.host}
        return kind(**where, **options)


def _is_fresh(connection: Any) -> bool:
    """Whether nobody closed it meanwhile, and no reply of an earlier exchange is waiting."""
    sock = connection._sock
    return sock is not None and sock.is_quiet()
