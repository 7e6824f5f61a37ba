"""Whose a token is, out of this process's memory where that still holds.

A token is never in Redis: what a process remembers of it is judged by the sequence of its account's
namespace, which comes with the request's limits. So a log-out, or another role, holds in every
process from its next request on.
"""

from __future__ import annotations

from app.coordination.gate import Gate
from app.coordination.local_cache import Loaded, LocalCache, Visit
from app.services.accounts import AccountService, Identified
from app.services.actor import Actor
from app.services.hints import Hints
from app.services.issuing import digest_of
from app.services.ports import ACCOUNT, account_namespace

_MOST_MS = 60_000
_SIZE = 300  # bytes, about, of an actor


class Tokens:
    """Identifies, first as far as is remembered, then for sure."""

    def __init__(self, accounts: AccountService, local: LocalCache | None, gate: Gate) -> None:
        self._accounts, self._local, self._gate = accounts, local, gate
        self._account_of: Hints[str, str] = Hints()

    def remembered(self, token: str) -> Actor | None:
        """Who it was when this process last looked; to be confirmed before anything is done."""
        digest = digest_of(token)
        namespace = self._account_of.get(digest)
        if self._local is None or namespace is None:
            return None
        actor: Actor | None = self._local.peek(namespace, digest)
        return actor

    def identify(self, token: str) -> Actor:
        """Who it is, by the database.

        Raises:
            Unauthenticated: unknown, expired or revoked, or the account is disabled.
        """
        return self._accounts.identify(token).actor

    def confirm(self, token: str, actor: Actor, *, visit: Visit | None, looked_up: bool) -> Actor:
        """The actor as of this request.

        Args:
            actor: as `remembered` or `identify` had it.
            visit: what the request sees; it may not see the account, or nothing.
            looked_up: whether `actor` is the database's word of this request.

        Raises:
            Unauthenticated: not any more.
        """
        namespace, digest = account_namespace(actor.account_id), digest_of(token)
        sequence = visit.sequence(namespace) if visit and self._gate.is_open else None
        if visit is None or sequence is None:
            return actor if looked_up else self.identify(token)
        held: Actor | None = visit.get(namespace, digest)
        if held is not None:
            return held
        # Looked up again, even so: the earlier look may be older than what the request has seen.
        found = self._accounts.identify(token)
        self._keep(visit, namespace, digest, sequence, found)
        return found.actor

    def _keep(
        self, visit: Visit, namespace: str, digest: str, sequence: int, found: Identified
    ) -> None:
        self._account_of.put(digest, namespace)
        ttl_ms = min(_MOST_MS, found.left_ms)
        visit.put(namespace, digest, found.actor, Loaded(sequence, [ACCOUNT], ttl_ms, _SIZE))
