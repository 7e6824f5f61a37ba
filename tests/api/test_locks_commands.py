"""`flask locks`: what operators type, on a real Valkey and on three that keep locks by majority."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from flask_openapi import OpenAPI
from structlog.testing import capture_logs

from app.coordination import keys
from app.coordination.lease import Lease
from app.errors import LockLost
from tests.api.conftest import MakeApp
from tests.api.lock_commands import acquire, force, identity, run, said
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

FREE = {
    "holder": None,
    "instance": None,
    "age_s": None,
    "left_ms": None,
    "waiters": 0,
    "of_servers": 1,
}
ODD = ["", " ", "a b", "a\nb", "{a}", "a}", "a*", "ä", ".a", "/a", "a%b", "a" * 129]
READING = ("list", "show sweep", "list --json", "show sweep --json")


@pytest.fixture
def app(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    """One instance on Valkey, with a label of its own."""
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, INSTANCE_ID="web-7")


@pytest.fixture
def wait(app: OpenAPI) -> Iterator[Callable[[str], Future[Lease]]]:
    """Others who want a lock and wait until they get it."""
    with ThreadPoolExecutor() as pool:
        yield lambda name: pool.submit(acquire, app, name, retries=None, wait_ms=30_000)


def test_where_nothing_is_held_the_list_is_empty(app: OpenAPI) -> None:
    assert run(app, "list").stdout == "No lock is held.\n"
    assert said(app, "list") == {"locks": []}


def test_the_list_shows_every_lock_that_is_held_by_name(app: OpenAPI, valkey: Valkey) -> None:
    leases = [acquire(app, name) for name in ("sweep", "a/b:c@d.e_f-g", "released")]
    app.extensions["taskflow"].locks.release(leases.pop())
    with valkey.client() as raw:
        raw.hincrby(keys.lock("sweep").lease, "since", -90)
    first, second = said(app, "list")["locks"]
    assert (first["name"], second["name"]) == ("a/b:c@d.e_f-g", "sweep")
    assert (second["holder"], second["instance"]) == (identity(app), "web-7")
    assert (second["fence"], first["fence"]) == (leases[0].fence, leases[1].fence)
    assert 90 <= second.pop("age_s") <= 120
    assert 30_000 < second.pop("left_ms") <= 60_000
    assert (second["waiters"], second["servers"]) == (0, 1)
    left = {"name", "holder", "instance", "fence", "waiters", "servers", "of_servers"}
    assert set(second) == left
    above, below = run(app, "list").stdout.splitlines()
    assert above.startswith("a/b:c@d.e_f-g  ")
    held = f"held by {identity(app)}, fence {leases[0].fence}, 9"
    assert below.startswith("sweep" + 28 * " " + held)
    assert below.endswith(" s left, 0 waiting")


def test_show_tells_of_one_lock_what_the_list_does(app: OpenAPI) -> None:
    acquire(app, "sweep")
    (listed,) = said(app, "list")["locks"]
    shown = said(app, "show", "sweep")
    assert shown.pop("left_ms") <= listed.pop("left_ms")
    assert shown.pop("age_s") >= listed.pop("age_s")
    assert shown == listed
    assert run(app, "show", "sweep").stdout.startswith(f"sweep: held by {identity(app)}, fence ")


def test_a_free_lock_shows_its_last_fence_if_it_ever_had_one(app: OpenAPI) -> None:
    assert run(app, "show", "sweep").stdout == "sweep: free\n"
    assert said(app, "show", "sweep") == {"name": "sweep", **FREE, "fence": None, "servers": 0}
    lease = acquire(app, "sweep")
    app.extensions["taskflow"].locks.release(lease)
    assert run(app, "show", "sweep").stdout == f"sweep: free, last fence {lease.fence}\n"
    assert said(app, "show", "sweep")["fence"] == lease.fence


def test_a_forced_release_wakes_a_waiter_and_is_logged_with_who_did_it(
    app: OpenAPI, wait: Callable[[str], Future[Lease]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    lease = acquire(app, "sweep")
    waiting = [wait("sweep"), wait("sweep")]
    eventually(lambda: said(app, "show", "sweep")["waiters"] == 2, what="two to wait")
    assert run(app, "show", "sweep").stdout.endswith(", 2 waiting\n")
    with capture_logs() as logs:
        done = force(app, "sweep")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == f"Released 'sweep', which {identity(app)} held."
    assert done.stderr.startswith(f"sweep: held by {identity(app)}, fence {lease.fence}, ")
    assert [line for line in logs if line["event"].startswith("lock.")] == [
        {
            "event": "lock.forced",
            "log_level": "warning",
            "lock": "sweep",
            "holder": identity(app),
            "by": "grace",
            "released": True,
        }
    ]
    eventually(lambda: any(one.done() for one in waiting), what="one to wake")
    first, second = sorted(waiting, key=lambda one: not one.done())
    locks = app.extensions["taskflow"].locks
    with pytest.raises(LockLost):
        locks.extend(lease)
    assert said(app, "show", "sweep")["waiters"] == 1
    locks.release(first.result())
    locks.release(second.result())


def test_whom_the_machine_does_not_know_is_logged_as_unknown(
    app: OpenAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31)
    acquire(app, "sweep")
    with capture_logs() as logs:
        assert force(app, "sweep").exit_code == 0
    assert [line["by"] for line in logs if line["event"] == "lock.forced"] == ["unknown"]


def test_release_answers_in_json_on_standard_output_alone(app: OpenAPI) -> None:
    acquire(app, "sweep")
    done = force(app, "sweep", "--json")
    # The runner shows what is typed there too.
    assert json.loads(done.stdout.removeprefix(" sweep\n")) == {
        "name": "sweep",
        "released": True,
        "holder": identity(app),
    }


@pytest.mark.parametrize("typed", ["swee\n", "Sweep\n", "y\n"])
def test_another_name_releases_nothing(app: OpenAPI, typed: str) -> None:
    lease = acquire(app, "sweep")
    with capture_logs() as logs:
        refused = force(app, "sweep", again=typed)
    assert refused.exit_code == 1
    assert refused.stderr.endswith("Error: That is another name; nothing was released.\n")
    assert [line for line in logs if line["event"] == "lock.forced"] == []
    app.extensions["taskflow"].locks.extend(lease)


def test_whoever_types_nothing_releases_nothing(app: OpenAPI) -> None:
    lease = acquire(app, "sweep")
    refused = force(app, "sweep", again="")
    assert refused.exit_code == 1
    assert refused.stderr.endswith("Aborted!\n")
    app.extensions["taskflow"].locks.extend(lease)


def test_without_force_nothing_is_asked_and_nothing_released(app: OpenAPI) -> None:
    lease = acquire(app, "sweep")
    refused = run(app, "release", "sweep", stdin="sweep\n")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == "Error: Missing option '--force'."
    app.extensions["taskflow"].locks.extend(lease)


def test_a_free_lock_cannot_be_released(app: OpenAPI) -> None:
    refused = force(app, "sweep")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: The lock 'sweep' is free.\n"


def test_a_lock_that_passed_on_while_the_name_was_typed_stays_with_its_new_holder(
    app: OpenAPI,
) -> None:
    locks = app.extensions["taskflow"].locks
    lease = acquire(app, "sweep")
    taken: list[Lease] = []

    def pass_on() -> None:
        locks.release(lease)
        taken.append(acquire(app, "sweep"))

    refused = force(app, "sweep", "--json", again=_Typing("sweep\n", pass_on))
    assert refused.exit_code == 1
    assert json.loads(refused.stdout.removeprefix(" sweep\n"))["released"] is False
    told = "Error: The lock 'sweep' has passed on by itself meanwhile."
    assert refused.stderr.splitlines()[-1] == told
    (new,) = taken
    locks.extend(new)
    assert new.fence == said(app, "show", "sweep")["fence"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("command", [["show"], ["release", "--force"]])
def test_a_name_that_no_lock_can_have_is_one_line(
    app: OpenAPI, command: list[str], name: str
) -> None:
    refused = run(app, *command, "--", name, stdin=f"{name}\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    takes = "A lock's name is 1 to 128 letters, digits and ._:/@-"
    assert refused.stderr == f"Error: {takes}, not {name!r}.\n"


def test_no_command_shows_the_token(app: OpenAPI) -> None:
    lease = acquire(app, "sweep")
    for command in READING:
        done = run(app, *command.split())
        assert done.exit_code == 0
        assert identity(app) in done.output
        assert lease.token not in done.output
    with capture_logs() as logs:
        assert lease.token not in force(app, "sweep", "--json").output
    assert lease.token not in str(logs)


@pytest.mark.parametrize("command", [*READING, "release sweep --force"])
def test_without_redis_every_command_is_one_line_and_fails(
    app: OpenAPI, valkey: Valkey, command: str
) -> None:
    valkey.kill()
    refused = run(app, *command.split())
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "Error: Redis (operator): connection, ConnectionError\n"


def test_where_no_redis_is_configured_it_says_which_variable_is_missing(
    make_app: MakeApp, ready_url: str
) -> None:
    refused = run(make_app(DATABASE_URL=ready_url), "list")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: REDIS_URL: got nothing, takes the Redis that keeps the locks\n"


class _Typing(io.BytesIO):
    """Somebody who types a line, after something else has happened."""

    def __init__(self, line: str, before: Callable[[], None]) -> None:
        super().__init__(line.encode())
        self._before: Callable[[], None] | None = before

    def read1(self, size: int | None = -1, /) -> bytes:
        before, self._before = self._before, None
        if before is not None:
            before()
        return super().read1(size)
