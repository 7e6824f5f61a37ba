"""The end of a process's parts: in order, once, and nothing begins again behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
import redis
from flask_openapi import OpenAPI

from app.bootstrap import Container
from app.coordination import keys
from app.db import migrate
from tests.api.conftest import MakeApp
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

HELD_UP = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def fresh(make_app: MakeApp, postgres_url: str, valkey: Valkey) -> OpenAPI:
    """A process that has served nothing yet."""
    migrate.upgrade(postgres_url)
    return make_app(DATABASE_URL=postgres_url, REDIS_URL=valkey.url)


@pytest.fixture
def parts(fresh: OpenAPI) -> Container:
    """Those of a process that has served a request."""
    assert asks(fresh) == 401
    found: Container = fresh.extensions["taskflow"]
    return found


@pytest.fixture
def raw(valkey: Valkey) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def asks(app: OpenAPI) -> int:
    headers = {"Authorization": "Bearer unknown"}
    return app.test_client().get("/api/v1/projects", headers=headers).status_code


def counted(postgres: psycopg.Connection, query: str) -> int:
    row = postgres.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def no_connection(postgres: psycopg.Connection) -> None:
    """Wait until the server has seen every connection to this database end, but `postgres`."""
    eventually(lambda: counted(postgres, CONNECTED) == 0, what="no connection left")


def scripts_run(raw: redis.Redis) -> int:
    return int(raw.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name in ("fleet", "limit-rules")]


def test_closing_again_does_nothing(
    parts: Container, raw: redis.Redis, postgres: psycopg.Connection
) -> None:
    eventually(lambda: raw.zcard(keys.FLEET) == 1, what="the process among those alive")
    parts.close()
    no_connection(postgres)
    assert raw.zcard(keys.FLEET) == 0
    asked = scripts_run(raw)
    parts.close()
    assert scripts_run(raw) == asked
    no_connection(postgres)


def test_a_request_that_comes_behind_the_end_begins_nothing_anew(
    fresh: OpenAPI, raw: redis.Redis
) -> None:
    before = threads()
    fresh.extensions["taskflow"].close()
    assert asks(fresh) == 401  # what was under way is still answered
    assert threads() == before
    assert raw.zcard(keys.FLEET) == 0


def test_a_reading_of_the_rules_ends_before_the_database_is_closed(
    parts: Container, postgres: psycopg.Connection, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE limit_rules")
        eventually(lambda: counted(postgres, HELD_UP) == 1, what="a reading that is held up")
        closing = threading.Thread(target=parts.close)
        closing.start()
        closing.join(0.2)  # time to close the database under it, if it could
    closing.join()
    no_connection(postgres)
