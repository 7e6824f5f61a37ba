"""The application on a real database and a real Valkey, and people who use it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from app import bootstrap, create_app
from app.config import Settings
from app.db import migrate
from tests.api.people import Person
from tests.support.redis_servers import Valkey

MakeApp = Callable[..., OpenAPI]


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """`create_app` for environment variables given as keywords; closed with the test.

    Every answer that a handler gives is checked against the schema that the document names.
    """
    # Real argon2 at its lowest cost: what it costs is no part of what is tested here.
    hasher = PasswordHasher.from_parameters(CHEAPEST)
    monkeypatch.setattr(bootstrap, "PasswordHasher", lambda: hasher)
    made: list[OpenAPI] = []

    def make(**env: str) -> OpenAPI:
        app = create_app(Settings.from_env(env))
        app.validate_response = True
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["taskflow"].close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def ready_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a migrated, empty SQLite database."""
    path = tmp_path / "ready.db"
    with sqlite3.connect(migrated_sqlite) as source:
        source.execute("VACUUM INTO ?", (str(path),))
    source.close()
    return f"sqlite:///{path}"


@pytest.fixture
def app(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    """The application on SQLite and Valkey."""
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url)


@pytest.fixture
def any_app(make_app: MakeApp, database_url: str, valkey: Valkey) -> OpenAPI:
    """The application on Valkey and each kind of database in turn."""
    migrate.upgrade(database_url)
    return make_app(DATABASE_URL=database_url, REDIS_URL=valkey.url)


@pytest.fixture
def client(app: OpenAPI) -> FlaskClient:
    """Someone without a log-in."""
    return app.test_client()


@pytest.fixture
def ann(app: OpenAPI) -> Person:
    return Person(app, "ann")


@pytest.fixture
def bob(app: OpenAPI) -> Person:
    return Person(app, "bob")
