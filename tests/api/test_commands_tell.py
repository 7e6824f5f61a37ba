"""What a command changed is known to be told when it ends: no other process need tell it again."""

from __future__ import annotations

import pytest
from flask_openapi import OpenAPI
from sqlalchemy import func, select

from app.bootstrap import Container
from app.db.models import Invalidation
from tests.api.conftest import MakeApp
from tests.api.people import Person
from tests.support.redis_servers import Valkey

WRITING = [["demo"], ["users", "plan", "ann@example.com", "big"], ["cron", "run", "overdue"]]
IDS = [" ".join(args[:2]) for args in WRITING]


def records(app: OpenAPI) -> tuple[int, int]:
    """Of the outbox: all records, and those that nobody is known to have told."""
    container: Container = app.extensions["taskflow"]
    with container.db.read() as session:
        every = session.scalar(select(func.count()).select_from(Invalidation))
        told = session.scalar(select(func.count(Invalidation.told)))
    return every or 0, (every or 0) - (told or 0)


@pytest.fixture
def another(
    make_app: MakeApp, app: OpenAPI, ann: Person, ready_url: str, valkey: Valkey
) -> OpenAPI:
    """The command's own process; what went before it, with something overdue, is told."""
    done = app.test_cli_runner().invoke(args=["demo", "--email", ann.email])
    assert done.exit_code == 0, done.output
    app.extensions["taskflow"].relay.settle()
    assert records(app)[1] == 0
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url)


@pytest.mark.parametrize("args", WRITING, ids=IDS)
def test_a_command_leaves_no_record_that_is_not_known_to_be_told(
    another: OpenAPI, args: list[str]
) -> None:
    before, _ = records(another)
    done = another.test_cli_runner().invoke(args=args)
    assert done.exit_code == 0, done.output
    after, untold = records(another)
    assert after > before
    assert untold == 0


@pytest.mark.parametrize("args", WRITING, ids=IDS)
def test_without_redis_it_leaves_them_to_the_others(
    another: OpenAPI, valkey: Valkey, args: list[str]
) -> None:
    before, _ = records(another)
    valkey.kill()
    done = another.test_cli_runner().invoke(args=args)
    valkey.restart()
    assert done.exit_code == 0, done.output
    after, untold = records(another)
    assert untold == after - before > 0


def test_a_command_that_fails_on_its_way_has_told_what_it_did(
    another: OpenAPI, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bad = tmp_path_factory.mktemp("csv") / "bad.csv"
    bad.write_bytes(b"title\n\xff\n")
    before, _ = records(another)
    done = another.test_cli_runner().invoke(args=["demo", "--file", str(bad)])
    assert done.exit_code == 1
    after, untold = records(another)
    assert (after > before, untold) == (True, 0)
