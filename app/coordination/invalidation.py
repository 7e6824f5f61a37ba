"""Moving tags, and remembering what Redis could not be told.

An invalidation that got no yes is owed, and tried again a few times a second until it is paid. A
process that owes reads no shared entry before that, so it never answers with what its own write
replaced. Other processes may, until it is paid or the entry's time to live is over; then the debt
is over too, since nothing so old can be read.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Sequence
from itertools import islice

import structlog

from app.coordination import deadline, keys
from app.coordination.absent import Scripting
from app.coordination.scripts import Arg, Call, Script
from app.errors import CoordinationError
from app.metrics import Metrics

_MOST_TAGS = 1_000
_AT_ONCE = 100
_RETRY_S = 0.2
_log = structlog.get_logger(__name__)

_Tag = tuple[str, str]


class Invalidations:
    """Sends invalidations and pays the ones it owes.

    Args:
        ttl_s: the longest that an entry lives, seconds.
        meta_ttl_ms: of the namespace's sequence and tags, ms; longer than any entry's.
    """

    def __init__(
        self,
        client: Scripting,
        script: Script,
        metrics: Metrics,
        *,
        ttl_s: float,
        meta_ttl_ms: int,
    ) -> None:
        self._client, self._script, self._events = client, script, metrics.cache
        self._ttl_s, self._meta_ttl_ms = ttl_s, meta_ttl_ms
        # When each tag moved, for the tags that Redis has not been told of.
        self._owed: dict[_Tag, float] = {}
        self._lock = threading.Lock()
        self._payer: threading.Thread | None = None

    @property
    def owes(self) -> bool:
        """Whether anything is owed."""
        return bool(self._owed)

    def send(self, namespaces: Sequence[str], tags: Sequence[str]) -> None:
        """Move the tags of every namespace, or owe it. Never raises."""
        for at in range(0, len(namespaces), _AT_ONCE):
            self._send(namespaces[at : at + _AT_ONCE], tags)

    def _send(self, namespaces: Sequence[str], tags: Sequence[str]) -> None:
        moved_at = time.monotonic()
        try:
            # Not on the request's budget: a slow read before it must not cost the invalidation.
            with deadline.no_budget():
                replies = self._client.call_many([self._call(each, tags) for each in namespaces])
        except CoordinationError as error:
            replies = [error] * len(namespaces)
        for namespace, reply in zip(namespaces, replies, strict=True):
            if not isinstance(reply, CoordinationError):
                self._events.labels("invalidation").inc()
                continue
            self._events.labels("invalidation_owed").inc()
            _log.warning("cache.invalidation_owed", kind=reply.kind)
            self._owe({(namespace, tag): moved_at for tag in tags})

    def pay(self) -> None:
        """Send all that is owed, before anything shared is read.

        Raises:
            CoordinationError: something is still owed.
        """
        while self._owed:
            debts = self._oldest()
            if not debts:
                return
            replies = self._client.call_many([self._call(ns, [tag]) for (ns, tag), _ in debts])
            for (key, moved_at), reply in zip(debts, replies, strict=True):
                if isinstance(reply, CoordinationError):
                    raise reply
                with self._lock:
                    # Still there if the tag has moved again meanwhile, and that was not heard.
                    if self._owed.get(key) == moved_at:
                        del self._owed[key]
                self._events.labels("invalidation").inc()

    def _owe(self, debts: dict[_Tag, float]) -> None:
        with self._lock:
            self._owed.update(debts)
            if self._payer is not None:
                return
            self._payer = threading.Thread(target=self._pay_soon, name="payer", daemon=True)
            self._payer.start()

    def _pay_soon(self) -> None:
        """Try until all is paid or lapsed: this process may never read again."""
        while True:
            time.sleep(_RETRY_S)
            with contextlib.suppress(CoordinationError):
                self.pay()
            with self._lock:
                if not self._owed:
                    self._payer = None
                    return

    def _oldest(self) -> list[tuple[_Tag, float]]:
        """Some debts; those that have lapsed are forgotten."""
        lapsed = time.monotonic() - 2 * self._ttl_s
        with self._lock:
            self._owed = {key: at for key, at in self._owed.items() if at > lapsed}
            return list(islice(self._owed.items(), _AT_ONCE))

    def _call(self, namespace: str, tags: Sequence[str]) -> Call:
        names = keys.cache(namespace, "")
        args: list[Arg] = [secrets.token_hex(8), self._meta_ttl_ms, _MOST_TAGS, *tags]
        return Call(self._script, [names.meta, names.tags], args)
