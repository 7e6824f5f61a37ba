"""`flask locks` where three independent servers keep the locks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask_openapi import OpenAPI

from app.coordination import deployment
from app.errors import LockLost
from tests.api.conftest import MakeApp
from tests.api.lock_commands import acquire, force, identity, run, said
from tests.support.majority import Majority
from tests.support.redis_servers import Valkey


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Majority]:
    """Three servers beside the one of `REDIS_URL`."""
    with Majority.start(tmp_path, 3) as servers:
        yield servers


@pytest.fixture
def app(make_app: MakeApp, ready_url: str, valkey: Valkey, three: Majority) -> OpenAPI:
    urls = ",".join(three.urls)
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, LOCK_REDIS_URLS=urls)


def test_a_lock_is_held_on_three_servers_and_on_none_that_serves_the_rest(
    app: OpenAPI, valkey: Valkey, three: Majority
) -> None:
    lease = acquire(app, "sweep")
    assert three.tokens("sweep") == [lease.token] * 3
    with valkey.client() as raw:
        assert raw.keys("*lock*") == []
    (shown,) = said(app, "list")["locks"]
    assert (shown["name"], shown["holder"]) == ("sweep", identity(app))
    assert (shown["servers"], shown["waiters"]) == (3, 0)
    assert lease.token not in run(app, "show", "sweep", "--json").output
    assert run(app, "list").stdout.endswith(" s left, 0 waiting, on 3 of 3 servers\n")
    assert run(app, "show", "sweep").stdout.endswith(" s left, 0 waiting, on 3 of 3 servers\n")


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_with_one_server_dead_locks_are_shown_and_released_as_before(
    app: OpenAPI, three: Majority, dead: int
) -> None:
    lease = acquire(app, "sweep")
    three.servers[dead].kill()
    (listed,) = said(app, "list")["locks"]
    shown = said(app, "show", "sweep")
    assert (listed["servers"], shown["servers"]) == (2, 2)
    assert run(app, "show", "sweep").stdout.endswith(", on 2 of 3 servers\n")
    done = force(app, "sweep")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"Released 'sweep', which {identity(app)} held."
    assert three.held("sweep") == 0
    assert said(app, "show", "sweep")["holder"] is None
    with pytest.raises(LockLost):
        app.extensions["taskflow"].locks.extend(lease)
    acquire(app, "sweep")


def test_a_lock_is_shown_as_most_servers_have_it(app: OpenAPI, three: Majority) -> None:
    acquire(app, "sweep")
    three.put(three.servers[0], "sweep", "other")
    shown = said(app, "show", "sweep")
    assert (shown["holder"], shown["servers"]) == (identity(app), 2)
    assert force(app, "sweep").exit_code == 0
    assert three.tokens("sweep") == ["other", None, None]


def test_with_every_server_dead_every_command_is_one_line_and_fails(
    app: OpenAPI, three: Majority
) -> None:
    acquire(app, "sweep")
    three.kill()
    for command in ("list", "show sweep", "release sweep --force"):
        refused = run(app, *command.split())
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr == "Error: Redis (operator): connection, ConnectionError\n"


def test_the_list_has_each_lock_once_whichever_servers_have_it(
    app: OpenAPI, three: Majority
) -> None:
    for name in ("a", "b", "c"):
        acquire(app, name)
    three.drop(three.servers[0], "a")
    three.drop(three.servers[2], "c")
    found = said(app, "list")["locks"]
    assert [(lock["name"], lock["servers"]) for lock in found] == [("a", 2), ("b", 3), ("c", 2)]


def test_a_lease_on_a_minority_is_shown_as_what_it_is(app: OpenAPI, three: Majority) -> None:
    three.put(three.servers[1], "sweep", "gone")
    (shown,) = said(app, "list")["locks"]
    assert (shown["servers"], shown["of_servers"]) == (1, 3)
    told = ", on 1 of 3 servers: by no majority, so that nobody holds the lock\n"
    assert run(app, "list").stdout.endswith(told)


def test_a_hung_server_is_asked_once_however_many_locks_there_are(
    app: OpenAPI, three: Majority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_TIMEOUT_S", 0.5)
    for number in range(20):
        acquire(app, f"lock-{number}")
    hung = three.servers[0]
    before = connections(three, hung)
    hung.freeze()
    found = said(app, "list")["locks"]
    hung.thaw()
    assert [lock["servers"] for lock in found] == [2] * 20
    assert connections(three, hung) == before + 1


def connections(three: Majority, server: Valkey) -> int:
    """How many a server has ever taken."""
    return int(three.raw(server).info("stats")["total_connections_received"])
