"""Sending scripts to Redis: one client, pool, timeout and breaker for each purpose.

Nothing is sent twice unless the server said that it did not run it (NOSCRIPT, MOVED, ASK): after a
timeout a script may have run, and only its caller knows whether repeating it is safe. A cluster's
redirections are followed one by one, inside the deadline of the one call.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis import RedisError
from redis.connection import SSLConnection, parse_url
from redis.exceptions import AskError, MovedError, NoScriptError, ReadOnlyError, ResponseError

from app.coordination import deadline, failures
from app.coordination.breaker import Breaker, State
from app.coordination.pools import Command, Pools
from app.coordination.scripts import Call, Script
from app.coordination.topology import Address, Node, Standalone, Topology
from app.errors import CoordinationError
from app.metrics import Metrics

_REDIRECTIONS = 4
_UNANSWERED = object()
_LEAST_BUDGET_S = 0.001
_LEAST_WAIT_S = 0.005  # to BLPOP, 0 means for ever


class ScriptClient:
    """One purpose's way to Redis.

    Args:
        purpose: `limiter`, `cache`, `lock` or `queue`; the metrics' label.
        timeout_s: what one call may take, seconds, redirections and reloads included.
    """

    def __init__(
        self,
        *,
        purpose: str,
        topology: Topology,
        options: Mapping[str, Any],
        timeout_s: float,
        metrics: Metrics,
        max_connections: int = 64,
        breaker: Breaker | None = None,
    ) -> None:
        self.purpose, self._topology, self._timeout_s = purpose, topology, timeout_s
        self._pools = Pools(options, timeout_s=timeout_s, most=max_connections)
        # Those who wait must not use up the connections of those who release.
        self._waiting = Pools(options, timeout_s=timeout_s, most=max_connections)
        self._metrics = metrics
        self._seconds = metrics.redis_seconds.labels(purpose)
        gauge = metrics.redis_breaker_open.labels(purpose)
        gauge.set(State.CLOSED.value)
        self.breaker = breaker or Breaker(on_change=lambda state: gauge.set(state.value))

    @property
    def is_cut_off(self) -> bool:
        """Whether so many calls went unanswered that only now and then one is let through."""
        return self.breaker.state is not State.CLOSED

    def call(self, call: Call) -> Any:
        """Run one script and return its reply.

        Raises:
            RedisUnavailable: no answer, or the breaker or budget forbids asking. It may have run.
            RedisRefused: the server answered with an error.
            PoolExhausted: all connections of this purpose are in use.
        """
        reply = self.call_many([call])[0]
        if isinstance(reply, CoordinationError):
            raise reply
        return reply

    def call_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one pipeline per node; a refused one's reply is its CoordinationError.

        Where a node breaks off after others were answered, that error is the reply of every script
        that has none; nodes that were not asked yet are not asked any more.

        Raises: as `call`, if there is no answer at all.
        """
        allowance = self._allowance()
        if not self.breaker.admits():
            raise self._count(failures.of_kind("breaker", purpose=self.purpose, detail="open"))
        started = time.perf_counter()
        replies: list[Any] = [_UNANSWERED] * len(calls)
        try:
            with deadline.operation(allowance):
                self._send(calls, replies)
        except failures.ERRORS as error:
            broken = self._broken(error, allowance)
            if all(reply is _UNANSWERED for reply in replies):
                raise broken from error
            return [broken if r is _UNANSWERED else r for r in self._typed(replies)]
        except BaseException:
            self.breaker.abstained()
            raise
        finally:
            self._spent(time.perf_counter() - started)
        return self._judged(replies)

    def block(self, key: str, seconds: float) -> bool:
        """Wait on a list until somebody pushes to it; True if so, False when the time is over.

        Its connections are a pool of their own, and what it meets is no news for the breaker:
        a wait is no measure of a server.

        Raises:
            CoordinationError: it cannot be waited here now.
        """
        if self.breaker.state is not State.CLOSED:
            raise failures.of_kind("breaker", purpose=self.purpose, detail="open")
        command = ("BLPOP", key, f"{max(seconds, _LEAST_WAIT_S):.3f}")
        try:
            with deadline.operation(seconds + self._timeout_s):
                (reply,) = self._waiting.exchange(self._topology.address_of(key), [command])
        except failures.ERRORS as error:
            raise self._count(failures.typed(error, purpose=self.purpose)) from error
        if isinstance(reply, ResponseError):
            raise self._refused(reply)
        return reply is not None

    def on_node(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """Plain commands for one node, for operators' tools: no breaker, no redirection.

        Raises:
            CoordinationError: for anything but an orderly reply.
        """
        try:
            with deadline.operation(self._timeout_s):
                replies = self._pools.exchange(node.address, commands)
        except failures.ERRORS as error:
            raise failures.typed(error, purpose=self.purpose) from error
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise failures.typed(reply, purpose=self.purpose)
        return replies

    def nodes(self) -> list[Node]:
        """Every node behind this purpose.

        Raises:
            CoordinationError: if nobody could tell.
        """
        try:
            return self._topology.nodes()
        except failures.ERRORS as error:
            raise failures.typed(error, purpose=self.purpose) from error

    def find(self) -> None:
        """Find out where the keys live, before the first request needs to know; never raises."""
        with contextlib.suppress(*failures.ERRORS):
            self._topology.find()

    def close(self) -> None:
        self._pools.close()
        self._waiting.close()

    def _allowance(self) -> float:
        budget = deadline.current_budget()
        if budget is None:
            return self._timeout_s
        if budget.left_s < _LEAST_BUDGET_S:
            raise self._count(failures.of_kind("budget", purpose=self.purpose, detail="spent"))
        return min(self._timeout_s, budget.left_s)

    def _spent(self, seconds: float) -> None:
        self._seconds.observe(seconds)
        budget = deadline.current_budget()
        if budget is not None:
            budget.spend(seconds)

    def _send(self, calls: Sequence[Call], replies: list[Any]) -> None:
        """Put every answer in its place as it comes; errors last, for they may break off."""
        by_address: dict[Address, list[int]] = {}
        for index, call in enumerate(calls):
            by_address.setdefault(self._topology.address_of(call.keys[0]), []).append(index)
        for address, indexes in by_address.items():
            answers = self._pools.exchange(address, [calls[i].command() for i in indexes])
            refused = []
            for index, answer in zip(indexes, answers, strict=True):
                if isinstance(answer, ResponseError):
                    refused.append((index, answer))
                else:
                    replies[index] = answer
            for index, error in refused:
                replies[index] = self._followed(address, calls[index], error)

    def _followed(self, address: Address, call: Call, reply: Any) -> Any:
        """Send again what the server says it did not run, where and how it says."""
        asking: list[Command] = []
        for _ in range(_REDIRECTIONS):
            if not isinstance(reply, (NoScriptError, MovedError, AskError)):
                return reply
            loading: list[Command] = []
            if isinstance(reply, NoScriptError):
                loading = [load_command(call.script)]
                self._metrics.redis_scripts_reloaded.labels(call.script.id).inc()
            elif isinstance(reply, AskError):
                address, asking = Address(reply.host, reply.port), [("ASKING",)]
            elif isinstance(self._topology, Standalone):
                return reply
            else:
                self._topology.moved(reply)
                address, asking = Address(reply.host, reply.port), []
            commands = [*loading, *asking, call.command()]
            reply = self._pools.exchange(address, commands)[-1]
        return reply

    def _broken(self, error: BaseException, allowance: float) -> CoordinationError:
        typed = failures.typed(error, purpose=self.purpose)
        # What was left of a request's budget may have been too little for a healthy server.
        cut_short = typed.kind == "timeout" and allowance < self._timeout_s
        if typed.kind == "pool" or cut_short:
            self.breaker.abstained()
        elif failures.KINDS[typed.kind].trips:
            self.breaker.failed()
            self._topology.refresh_soon()
        else:
            self.breaker.succeeded()
        return self._count(typed)

    def _judged(self, replies: list[Any]) -> list[Any]:
        if not any(isinstance(reply, Exception) for reply in replies):
            self.breaker.succeeded()
            return replies
        judged = self._typed(replies)
        kinds = [r.kind for r in judged if isinstance(r, CoordinationError)]
        if any(failures.KINDS[kind].trips for kind in kinds):
            self.breaker.failed()
            self._topology.refresh_soon()
        else:
            self.breaker.succeeded()
        return judged

    def _typed(self, replies: list[Any]) -> list[Any]:
        return [self._refused(r) if isinstance(r, Exception) else r for r in replies]

    def _refused(self, error: Exception) -> CoordinationError:
        if isinstance(error, ReadOnlyError):
            self._topology.refresh_soon()
        return self._count(failures.typed(error, purpose=self.purpose))

    def _count(self, error: CoordinationError) -> CoordinationError:
        self._metrics.redis_failures.labels(self.purpose, error.kind).inc()
        return error


def load_command(script: Script) -> Command:
    return ("SCRIPT", "LOAD", script.source)


def from_url(url: str) -> tuple[Topology, dict[str, Any]]:
    """The topology and the connection options that a URL of one server means.

    `rediss://…?ssl_ca_certs=…&ssl_certfile=…` carries TLS options as redis-py names them.

    Raises:
        ValueError: an option that a connection does not have, or a value that it does not take.
    """
    options = dict(parse_url(url))
    if "path" in options:
        address = Address(options.pop("path"), 0)
    else:
        address = Address(options.pop("host", "localhost"), options.pop("port", 6379))
    connection_class = options.pop("connection_class", None)
    if connection_class is not None and issubclass(connection_class, SSLConnection):
        options["ssl"] = True
        if options.get("ssl_cert_reqs") == "none":
            options["ssl_cert_reqs"] = ssl.CERT_NONE
    try:
        Pools(options, timeout_s=1, most=1).make(address)
    except (TypeError, RedisError) as error:
        raise ValueError(str(error)) from error
    return Standalone(address), options
