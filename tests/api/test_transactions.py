"""What a request meets when others are at the same rows, or have every connection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import request
from flask_openapi import OpenAPI
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import engine, migrate
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.api.test_problems import check
from tests.support.redis_servers import Valkey

PAIRS = 5
RENAME = text("UPDATE projects SET version = version + 1 WHERE name = :name")


class Opposing:
    """An application with a route that changes two projects, in the order that it is told.

    Both requests of a pair hold their first project before either asks for the other's.
    """

    def __init__(self, app: OpenAPI) -> None:
        self._both_hold_one = threading.Barrier(2)
        self.runs: list[str] = []

        @app.post("/api/v1/opposing")
        def opposing() -> dict[str, str]:
            self._change(*(request.args[name] for name in ("first", "second", "number")))
            return {}

        self._db = app.extensions["taskflow"].db
        self.ann = Person(app, "ann")
        self.ann.project("A")
        self.ann.project("B")

    def _change(self, first: str, second: str, number: str) -> None:
        def unit(session: Session) -> None:
            self.runs.append(number)
            session.execute(RENAME, {"name": first})
            if self.runs.count(number) == 1:
                self._both_hold_one.wait(20)
            session.execute(RENAME, {"name": second})

        self._db.retrying(unit)

    def pair(self, number: int, headers: Callable[[str], dict[str, str]]) -> list[int]:
        """The statuses of two requests in opposite order."""

        def send(first: str, second: str) -> int:
            path = f"/opposing?first={first}&second={second}&number={number}{first}"
            sent = headers(f"{number}{first}")
            return self.ann.request("POST", path, headers=sent).status_code

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(send, ("A", "B"), ("B", "A")))

    def versions(self) -> list[int]:
        return sorted(each["version"] for each in json_of(self.ann.get("/projects"))["items"])


@pytest.fixture
def opposing(make_app: MakeApp, postgres_url: str, valkey: Valkey) -> Opposing:
    migrate.upgrade(postgres_url)
    soon = f"{postgres_url}?options=-c%20deadlock_timeout%3D20ms"
    return Opposing(make_app(DATABASE_URL=soon, REDIS_URL=valkey.url))


@pytest.mark.parametrize("name", ["X-Request-ID", "Idempotency-Key"])
def test_requests_that_deadlock_all_succeed(opposing: Opposing, name: str) -> None:
    answers = Counter[int]()
    for number in range(PAIRS):
        answers.update(opposing.pair(number, lambda value: {name: value}))
    assert answers == {200: 2 * PAIRS}
    assert len(opposing.runs) >= 3 * PAIRS  # each pair did deadlock
    assert opposing.versions() == [1 + 2 * PAIRS] * 2


def test_without_another_try_one_of_each_pair_fails(
    opposing: Opposing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "TRIES", 1)
    assert sorted(opposing.pair(0, lambda _: {})) == [200, 503]
    assert opposing.versions() == [2, 2]


def test_a_request_that_gets_no_connection_is_a_503_that_says_when_to_come_back(
    make_app: MakeApp, ready_url: str
) -> None:
    app = make_app(DATABASE_URL=ready_url, DB_POOL_SIZE="1", DB_POOL_TIMEOUT="50")
    ann, db = Person(app, "ann"), app.extensions["taskflow"].db
    with db.read() as held:
        held.execute(text("SELECT 1"))
        for answer in (ann.get("/projects"), ann.post("/projects", {"name": "House"})):
            check(answer, 503, "database-unavailable")
            assert answer.headers["Retry-After"] == "2"
    assert ann.get("/projects").status_code == 200


def test_a_request_with_a_key_never_needs_a_second_connection(
    make_app: MakeApp, database_url: str
) -> None:
    """Else as many of them as there are connections would wait for each other."""
    migrate.upgrade(database_url)
    app = make_app(DATABASE_URL=database_url, DB_POOL_SIZE="1", DB_POOL_TIMEOUT="50")
    parts = app.extensions["taskflow"]

    @app.post("/api/v1/reads-too")
    def reads_too() -> dict[str, int]:
        parts.db.retrying(lambda session: session.execute(text("UPDATE projects SET version = 9")))
        with parts.db.read() as session:
            return {"version": session.scalar(text("SELECT max(version) FROM projects"))}

    ann = Person(app, "ann")
    ann.project()
    answer = ann.post("/reads-too", headers={"Idempotency-Key": "one"})
    assert (answer.status_code, json_of(answer)) == (200, {"version": 9})
