"""The services over a migrated database of each kind, and a cache that keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from argon2 import PasswordHasher

from app.coordination.gate import Gate
from app.db.engine import Database
from app.services.accounts import AccountService
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.history import HistoryService
from app.services.imports import ImportService
from app.services.invitations import InvitationService
from app.services.members import MemberService
from app.services.own_account import OwnAccountService
from app.services.passwords import Passwords
from app.services.projects import ProjectService
from app.services.stats import StatsService
from app.services.sweep import SweepService
from app.services.tasks import TaskService
from tests.services.cache_site import Site
from tests.support.database import PassThroughCache, Schemas, add_account, add_project
from tests.support.postgres import PostgresServer
from tests.support.redis_servers import Valkey

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass(frozen=True)
class World:
    """Two accounts, a project of the first, and every service."""

    db: Database
    cache: PassThroughCache
    changes: Changes
    ann: Actor
    bob: Actor
    home: UUID
    accounts: AccountService
    own_account: OwnAccountService
    projects: ProjectService
    members: MemberService
    invitations: InvitationService
    tasks: TaskService
    history: HistoryService
    stats: StatsService
    imports: ImportService
    sweep: SweepService


def _world(db: Database) -> World:
    cache = PassThroughCache()
    changes = Changes(db, cache, Gate())
    passwords = Passwords(CHEAP, at_once=4)
    ann, bob = add_account(db, "ann"), add_account(db, "bob")
    return World(
        db=db,
        cache=cache,
        changes=changes,
        ann=ann,
        bob=bob,
        home=add_project(db, ann),
        accounts=AccountService(db, changes, passwords, session_ttl_s=3_600),
        own_account=OwnAccountService(db, changes, passwords),
        projects=ProjectService(db, changes),
        members=MemberService(db, changes),
        invitations=InvitationService(db, changes),
        tasks=TaskService(db, changes, cache),
        history=HistoryService(db),
        stats=StatsService(db, cache),
        imports=ImportService(db, changes),
        sweep=SweepService(changes),
    )


@pytest.fixture(scope="package")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Schemas:
    """The schema, migrated once."""
    return Schemas(tmp_path_factory.mktemp("schemas"))


@pytest.fixture
def sqlite_world(schemas: Schemas, tmp_path: Path) -> Iterator[World]:
    """On SQLite alone."""
    with schemas.sqlite(tmp_path / "taskflow.db") as db:
        yield _world(db)


@pytest.fixture
def postgres_world(schemas: Schemas, postgres_server: PostgresServer) -> Iterator[World]:
    """On PostgreSQL alone, for what SQLite cannot do."""
    with schemas.postgresql(postgres_server) as db:
        yield _world(db)


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """A test that takes it runs on SQLite and on PostgreSQL."""
    made: World = request.getfixturevalue(f"{request.param}_world")
    return made


@pytest.fixture
def db(world: World) -> Database:
    return world.db


@pytest.fixture
def make_site(db: Database) -> Iterator[Callable[[str], Site]]:
    """Processes with a shared cache, by the URL of their Redis."""
    made: list[Site] = []

    def make(url: str) -> Site:
        made.append(Site(db, url))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[[str], Site], valkey: Valkey) -> Site:
    """A process that believes its cache."""
    return make_site(valkey.url).ready()


@pytest.fixture
def away() -> Iterator[Database]:
    """A database that does not answer."""
    database = Database("postgresql://127.0.0.1:1/gone", pool_size=1, pool_timeout_ms=100)
    yield database
    database.close()
