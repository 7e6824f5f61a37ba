"""A Redis service that fails as real ones do: killed, flushed, failed over to a stale replica."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

_PATIENCE_S = 60.0


class Failing:
    """A Valkey behind a proxy, with a replica: killed, flushed, or failed over on demand."""

    def __init__(self, primary: Valkey, replica: Valkey, proxy: Proxy) -> None:
        self._primary, self._replica, self.proxy = primary, replica, proxy
        self._follow()

    def lose(self) -> Callable[[], None]:
        """Kill it; the answer starts it again, empty."""
        self._primary.kill()
        return self._primary.restart

    def flush(self) -> None:
        with self._primary.client() as client:
            client.flushall()

    def part(self) -> None:
        """From now on the replica misses what the primary acknowledges."""
        with self._replica.client() as client:
            client.replicaof("NO", "ONE")

    def fail_over(self) -> None:
        """The replica serves, with what it missed lost; the old primary follows it."""
        self._primary, self._replica = self._replica, self._primary
        self.proxy.retarget(self._primary.port)
        self._follow()

    def _follow(self) -> None:
        with self._replica.client() as client:
            client.replicaof("127.0.0.1", str(self._primary.port))
            eventually(
                lambda: client.info("replication")["master_link_status"] == "up",
                timeout_s=_PATIENCE_S,
                what="the replica to follow",
            )
