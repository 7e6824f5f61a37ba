"""The PostgreSQL that other tests build on does what those tests believe."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.support.postgres import PostgresServer


def test_the_server_is_postgresql_18(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18


@pytest.mark.parametrize("visit", [1, 2])
def test_each_test_gets_an_empty_database(postgres_url: str, visit: int) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE visits (number int)")
        connection.execute("INSERT INTO visits VALUES (%s)", (visit,))
        assert connection.execute("SELECT count(*) FROM visits").fetchone() == (1,)


def test_a_frozen_server_answers_nobody_until_it_is_thawed(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    postgres_server.freeze()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        psycopg.connect(postgres_url, connect_timeout=2)
    postgres_server.thaw()
    psycopg.connect(postgres_url, connect_timeout=5).close()


def test_a_killed_server_leaves_no_backend_and_comes_back_with_its_data(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
    connected = psycopg.connect(postgres_url)
    postgres_server.kill()
    with pytest.raises(psycopg.OperationalError):
        connected.execute("SELECT 1")
    connected.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgres_url, connect_timeout=2)
    postgres_server.restart()
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_both_kinds_of_database_come_from_one_fixture(database_url: str) -> None:
    assert make_url(database_url).get_backend_name() in {"sqlite", "postgresql"}
