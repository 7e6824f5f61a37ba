"""Migrated databases for the tests of what stands on them, and rows to begin with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, text
from sqlalchemy.orm import InstrumentedAttribute

from app.coordination.stale import NO_HISTORY, Heard, Stale
from app.db.engine import Database
from app.db.enums import MemberRole
from app.db.migrate import upgrade
from app.db.models import Account, Base, Project, ProjectMember, Task
from app.db.types import new_id
from app.services.actor import Actor
from app.services.projects import owner_of
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

LONG_AGO = datetime(2024, 5, 1, 12, tzinfo=UTC)
FAR_AHEAD = datetime(2099, 5, 1, 12, tzinfo=UTC)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A pool of its own on the database at `url`, whose schema is there already."""
    database = Database(url, pool_size=10, pool_timeout_ms=5_000)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def migrated(url: str) -> Iterator[Database]:
    """The database at `url` with the newest schema."""
    upgrade(url)
    with opened(url) as database:
        yield database


class Schemas:
    """Databases that are migrated once for many tests: emptied or copied, they are as new."""

    def __init__(self, folder: Path) -> None:
        self._template = folder / "template.db"
        self._postgres_url: str | None = None
        upgrade(f"sqlite:///{self._template}")

    @contextmanager
    def sqlite(self, path: Path) -> Iterator[Database]:
        """An empty SQLite database at `path`."""
        shutil.copyfile(self._template, path)
        with opened(f"sqlite:///{path}") as database:
            yield database

    @contextmanager
    def postgresql(self, server: PostgresServer) -> Iterator[Database]:
        """An empty PostgreSQL database: always the same one, for one test at a time."""
        if self._postgres_url is None:
            self._postgres_url = server.create_database(f"schema_{uuid4().hex}")
            upgrade(self._postgres_url)
        with opened(self._postgres_url) as database:
            tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
            with database.write() as session:
                session.execute(text(f"TRUNCATE {tables}"))
            yield database


def add_account(database: Database, name: str = "ann") -> Actor:
    """An account whose address is verified, and that can't log in: its password hash is none."""
    now = datetime.now(UTC)
    account = Account(
        id=new_id(),
        email=f"{name}@example.com",
        name=name,
        password_hash="none",
        email_verified_at=now,
        created_at=now,
        updated_at=now,
    )
    with database.write() as session:
        session.add(account)
    return Actor(account_id=account.id, session_id=None, role="user")


def add_project(database: Database, owner: Actor, name: str = "Home") -> UUID:
    """An empty project of `owner`."""
    now = datetime.now(UTC)
    project = Project(
        id=new_id(), owner_id=owner.account_id, name=name, created_at=now, updated_at=now
    )
    with database.write() as session:
        session.add(project)
        session.flush()
        session.add(owner_of(project))
    return project.id


def add_member(database: Database, project_id: UUID, who: Actor, role: MemberRole) -> None:
    """A membership of `who`, as an invitation that was accepted leaves it."""
    member = ProjectMember(
        project_id=project_id, account_id=who.account_id, role=role, created_at=datetime.now(UTC)
    )
    with database.write() as session:
        session.add(member)


def add_tasks(database: Database, project_id: UUID, count: int, **columns: Any) -> list[UUID]:
    """`count` pending tasks, in order of their ids; `columns` replace the defaults."""
    now = datetime.now(UTC)
    tasks = [
        Task(
            **{
                "id": new_id(),
                "project_id": project_id,
                "title": f"Task {number}",
                "created_at": now,
                "updated_at": now,
                **columns,
            }
        )
        for number in range(count)
    ]
    with database.write() as session:
        session.add_all(tasks)
    return [task.id for task in tasks]


def column(database: Database, wanted: InstrumentedAttribute[Any]) -> list[Any]:
    """Every value of a column, ordered."""
    with database.read() as session:
        return list(session.scalars(select(wanted).order_by(wanted)))


def rows_in(database: Database, table: type[Base]) -> int:
    """How many rows a table has."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def wait_for_a_blocked_backend(database: Database, *, count: int = 1) -> None:
    """Wait until somebody, or `count` of them, on PostgreSQL wait for a lock."""

    def is_blocked() -> bool:
        with database.read() as session:
            blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return (session.scalar(blocked) or 0) >= count

    eventually(is_blocked, what="a backend that waits for a lock")


class PassThroughCache:
    """Keeps nothing; counts the loads and writes down the invalidations."""

    records = False

    def __init__(self) -> None:
        self.loads = 0
        self.invalidated: list[tuple[str, tuple[str, ...]]] = []

    def fetch(
        self,
        namespace: str,
        key: str,
        *,
        tags: Sequence[str],
        load: Callable[[], bytes],
        ttl_s: int | None = None,  # noqa: ARG002  nothing is kept
    ) -> bytes:
        assert namespace
        assert key
        assert tags
        self.loads += 1
        return load()

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        self.invalidated += [
            (namespace, change.tags) for change in changes for namespace in change.namespaces
        ]
        return dict.fromkeys(changes, NO_HISTORY)
