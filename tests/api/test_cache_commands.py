"""`flask cache`: what operators type, on a real database and Valkey."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from flask_openapi import OpenAPI
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


def run(app: OpenAPI, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=["cache", *args])


def said(app: OpenAPI, *args: str) -> dict[str, Any]:
    """What a command answers with `--json`."""
    done = run(app, *args, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def project(app: OpenAPI, ann: Person) -> dict[str, Any]:
    """With one task; its list and its statistics are cached."""
    eventually(lambda: app.extensions["taskflow"].gate.is_open, what="the first look")
    project = ann.project()
    ann.task(project)
    look(ann, project)
    return project


def look(ann: Person, project: dict[str, Any]) -> list[int]:
    """How many tasks the list and the statistics show."""
    path = f"/projects/{project['id']}"
    tasks, stats = ann.get(f"{path}/tasks"), ann.get(f"{path}/stats")
    return [len(json_of(tasks)["items"]), json_of(stats)["total"]]


def add_behind_the_caches_back(app: OpenAPI) -> None:
    """As restoring a backup would: a change of which the cache is told nothing."""
    with app.extensions["taskflow"].db.write() as session:
        session.execute(text("DELETE FROM tasks"))


def test_namespaces_are_told_with_what_is_in_them(app: OpenAPI, project: dict[str, Any]) -> None:
    name = f"project:{project['id']}"
    views = {view["namespace"]: view for view in said(app, "namespaces")["namespaces"]}
    view = views[name]
    assert (view["entries"], view["valid"], view["floor"]) == (2, 2, 0)
    assert (view["clock"], view["tags"]) == (1, 2)  # one task was made: `lists` and itself
    assert view["bytes"] > 0
    assert f"{name}  2 entries, 2 valid, {view['bytes']} bytes, 2 tags, clock 1, floor 0" in (
        run(app, "namespaces").output
    )
    assert any(other.startswith("account:") for other in views)


def test_entries_and_a_value_are_shown(app: OpenAPI, ann: Person, project: dict[str, Any]) -> None:
    name = f"project:{project['id']}"
    entries = said(app, "show", name)["entries"]
    assert [(entry["tags"], entry["valid"], entry["sequence"]) for entry in entries] == [
        (["lists", f"member:{ann.id}"], True, 1)
    ] * 2
    assert sorted(entry["left_ms"] > 5_000 for entry in entries) == [False, True]
    (tasks,) = [entry for entry in entries if entry["key"].startswith("tasks:")]
    shown = said(app, "show", name, tasks["key"])
    assert {key: shown[key] for key in ("namespace", "key", "bytes")} == {
        "namespace": name,
        "key": tasks["key"],
        "bytes": tasks["bytes"],
    }
    tag, _, body = shown["value"].partition("\n")
    answer = ann.get(f"/projects/{project['id']}/tasks")
    assert (f'"{tag}"', body.encode()) == (answer.headers["ETag"], answer.data)
    ann.task(project)
    assert [entry["valid"] for entry in said(app, "show", name)["entries"]] == [False] * 2
    lines = run(app, "show", name).output.splitlines()
    assert [line[:5] for line in lines] == ["stale"] * 2
    assert run(app, "show", "project:none").output == "Nothing is cached in project:none.\n"


def test_the_figures_tell_of_everything_and_of_what_is_pending(
    app: OpenAPI, ann: Person, project: dict[str, Any], valkey: Valkey
) -> None:
    container = app.extensions["taskflow"]
    container.relay.close()
    ann.task(project)
    found = said(app, "stats")
    assert (found["entries"], found["valid"], found["pending"]) == (2, 0, 0)
    valkey.kill()
    ann.task(project)
    valkey.restart()
    eventually(lambda: said(app, "stats")["pending"] == 1, what="the record to be old enough")
    found = said(app, "stats")
    assert (found["entries"], found["pending"]) == (0, 1)
    assert found["oldest_pending_s"] >= 2
    lines = run(app, "stats").output.splitlines()
    assert lines[0] == "0 entries, 0 valid, 0 bytes in 0 namespaces"
    assert lines[1].startswith("1 invalidations pending, the oldest for ")


def test_what_is_invalidated_is_loaded_again(
    app: OpenAPI, ann: Person, project: dict[str, Any]
) -> None:
    name = f"project:{project['id']}"
    add_behind_the_caches_back(app)
    assert look(ann, project) == [1, 1]  # the control
    with capture_logs() as logs:
        assert said(app, "invalidate", name, "lists", "every-task") == {
            "namespace": name,
            "tags": ["lists", "every-task"],
            "entries": 2,
        }
    assert [line["event"] for line in logs] == ["cache.invalidated"]
    assert look(ann, project) == [0, 0]
    assert run(app, "invalidate", name, "list").output == f"{name}: 0 entries made stale\n"


def test_after_a_restored_backup_everything_is_begun_anew(
    app: OpenAPI,
    ann: Person,
    project: dict[str, Any],
    make_app: MakeApp,
    ready_url: str,
    valkey: Valkey,
) -> None:
    add_behind_the_caches_back(app)
    assert look(ann, project) == [1, 1]  # the control
    operator = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url)
    with capture_logs() as logs:
        done = run(operator, "invalidate", "--all")
    assert done.output == "2 namespaces begun anew\n"
    assert [line["event"] for line in logs] == ["cache.invalidated_all"]
    assert look(ann, project) == [0, 0]


def test_a_cache_on_a_server_of_its_own_is_looked_at_there(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    own = valkey.url.replace("/0", "/1")
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, CACHE_REDIS_URL=own)
    ann = Person(app, "ann")
    eventually(lambda: app.extensions["taskflow"].gate.is_open, what="the first look")
    look(ann, ann.project())
    assert said(app, "stats")["entries"] == 2
    elsewhere = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url)
    assert said(elsewhere, "stats")["entries"] == 0


BAD = [
    (["show", ""], "NAMESPACE: it is empty"),
    (["show", "project:1", "tasks"], "Nothing is cached under 'tasks' in 'project:1'."),
    (["show", "project:1", ""], "KEY: it is empty"),
    (["invalidate"], "NAMESPACE and at least one TAG, or --all."),
    (["invalidate", "project:1"], "NAMESPACE and at least one TAG, or --all."),
    (["invalidate", "--all", "project:1"], "--all takes no namespace."),
    (["invalidate", "project:1", "lists"], "Nothing is cached in 'project:1'."),
    (["invalidate", "project:1", ""], "TAG: it is empty"),
    (["invalidate", "project:1", "!x"], "TAG: '!x' is no tag"),
    (["invalidate", "project:1", "a\nb"], r"TAG: 'a\nb' is no tag"),
]


@pytest.mark.parametrize(("args", "words"), BAD, ids=[repr(args)[1:40] for args, _ in BAD])
def test_what_cannot_be_is_one_line_and_an_exit_code(
    app: OpenAPI, args: list[str], words: str
) -> None:
    refused = run(app, *args)
    assert refused.exit_code in (1, 2)
    assert refused.output.splitlines()[-1].startswith("Error: ")
    assert words in refused.output.splitlines()[-1]
    assert isinstance(refused.exception, SystemExit)


LOOKING = [
    ["stats"],
    ["namespaces"],
    ["show", "a"],
    ["invalidate", "a", "b"],
    ["invalidate", "--all"],
]


@pytest.mark.parametrize("args", LOOKING, ids=" ".join)
@pytest.mark.parametrize("redis", ["away", "none"])
def test_without_redis_a_command_says_so_in_one_line(
    make_app: MakeApp, ready_url: str, valkey: Valkey, args: list[str], redis: str
) -> None:
    env = {"REDIS_URL": valkey.url} if redis == "away" else {}
    app = make_app(DATABASE_URL=ready_url, **env)
    valkey.stop()
    refused = run(app, *args)
    valkey.restart()
    assert refused.exit_code == 1
    assert isinstance(refused.exception, SystemExit)
    (line,) = refused.output.splitlines()
    assert line.startswith("Error: " if redis == "away" else "Error: REDIS_URL: got nothing")
