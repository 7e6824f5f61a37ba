"""One process before a shared cache, as `bootstrap` puts it together, but for the thread."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from sqlalchemy import bindparam, select, update

from app.coordination.client import ScriptClient, from_url
from app.coordination.clocks import since_boot
from app.coordination.gate import Gate
from app.coordination.stale import Stale
from app.db import invalidations
from app.db.engine import Database
from app.db.models import Invalidation
from app.metrics import Metrics
from app.services.changes import Changes
from app.services.relay import Relay
from tests.support.caches import shared_cache

HOME = "project:home"
TASKS = Stale((HOME,), ("tasks",))
ENTRY_TTL_S = 30


class Site:
    """A process with its gate, changes and relay, on `db` and the Redis at `url`.

    `ahead_s`: how far its gate's clock is ahead of the relay's.
    """

    def __init__(self, db: Database, url: str) -> None:
        self.db, self.metrics, self.ahead_s = db, Metrics(), 0.0
        topology, options = from_url(url)
        self._client = ScriptClient(
            purpose="cache", topology=topology, options=options, timeout_s=5, metrics=self.metrics
        )
        self.gate = Gate(clock=lambda: since_boot() + self.ahead_s)
        self.cache = shared_cache(self._client, self.metrics, gate=self.gate)
        self.changes = Changes(db, self.cache, self.gate)
        self.relay = Relay(
            db, self.cache, self.changes, self.gate, self.metrics, entry_ttl_s=ENTRY_TTL_S
        )

    def ready(self) -> Self:
        """The same, after a look that opened its gate."""
        assert self.relay.look()
        assert self.gate.is_open
        return self

    def change(self, stale: Stale = TASKS) -> None:
        """A change of nothing but the cache's."""
        self.changes.commit(lambda _: None, lambda _: stale)

    def read(self, value: int, namespace: str = HOME) -> int:
        """What the cache has; `value` is what the database would say."""
        return int(
            self.cache.fetch(namespace, "list", tags=["tasks"], load=lambda: str(value).encode())
        )

    def told(self) -> float:
        """How many invalidations Redis has heard from this process."""
        return float(self.metrics.cache.labels("invalidation")._value.get())

    def close(self) -> None:
        self._client.close()


def outbox(db: Database) -> list[str | None]:
    """Which history has each record, the oldest first."""
    with db.read() as session:
        return list(session.scalars(select(Invalidation.told).order_by(Invalidation.id)))


def age(db: Database, ms: int = 1_500) -> None:
    """All records are that much older now, by the database's clock."""
    with db.write() as session:
        session.execute(update(Invalidation).values(created_ms=Invalidation.created_ms - ms))


def age_of_writers(db: Database, ms: int) -> None:
    """And by their writers' clocks."""
    table = Invalidation.metadata.tables["invalidations"]
    moved = update(table).where(table.c.id == bindparam("was")).values(id=bindparam("now"))
    with db.write() as session:
        ids = session.scalars(select(Invalidation.id)).all()
        earlier = [{"was": each, "now": UUID(int=each.int - (ms << 80))} for each in ids]
        session.connection().execute(moved, earlier)


def record(db: Database, count: int = 1) -> None:
    """Changes whose writer died after the commit."""
    with db.write() as session:
        for _ in range(count):
            invalidations.record(session, TASKS.namespaces, TASKS.tags)
