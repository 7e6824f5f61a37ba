"""Connections of one purpose, and the exchange of commands for replies on them.

Commands are packed and read here, on redis-py's pooled connections, so that one write carries the
whole pipeline, one deadline covers the whole exchange, and a failing script does not hide the
replies of its neighbours.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ResponseError
from redis.retry import Retry

from app.coordination import deadline
from app.coordination.scripts import Arg
from app.coordination.topology import Address

Command = Sequence[Arg]


class Pools:
    """One connection pool for each address of one purpose.

    Args:
        options: redis-py's connection options without the address (user, password, TLS).
        timeout_s: to connect, and for reads outside an operation's deadline, seconds.
        most: connections at most to each address.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout_s: float, most: int) -> None:
        self._options = {
            **options,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "max_connections": most,
            "driver_info": None,
        }
        self._pools: dict[Address, ConnectionPool] = {}
        self._lock = threading.Lock()

    def exchange(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        """Send all commands in one write and read all replies; a reply may be a ResponseError.

        Raises:
            RedisError, OSError: the exchange broke off; each command may have run.
        """
        pool = self._pool(address)
        connection = pool.get_connection()
        try:
            packed = connection.pack_commands(commands)
            connection.send_packed_command(packed, check_health=False)
            return [_read(connection) for _ in commands]
        except BaseException:
            # Replies may still be on their way: this connection must never serve another call.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.disconnect()

    def _pool(self, address: Address) -> ConnectionPool:
        pool = self._pools.get(address)
        if pool is None:
            with self._lock:
                pool = self._pools.setdefault(address, self._make(address))
        return pool

    def _make(self, address: Address) -> ConnectionPool:
        options = dict(self._options)
        if not address.port:
            kind: type = deadline.DeadlineUnixConnection
            return ConnectionPool(connection_class=kind, path=address.host, **options)
        tls = options.pop("ssl", False)
        kind = deadline.DeadlineSSLConnection if tls else deadline.DeadlineConnection
        return ConnectionPool(
            connection_class=kind, host=address.host, port=address.port, **options
        )


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
