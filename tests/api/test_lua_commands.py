"""`flask lua`: what operators type, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask_openapi import OpenAPI

from app.coordination.scripts import ScriptRegistry
from tests.api.conftest import MakeApp
from tests.support.child import ROOT
from tests.support.majority import Majority
from tests.support.ports import free_port
from tests.support.processes import environment
from tests.support.redis_servers import Valkey

SCRIPTS = ScriptRegistry.from_folder()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Majority]:
    with Majority.start(tmp_path, 3) as servers:
        yield servers


@pytest.fixture
def app_with_lock_servers(
    make_app: MakeApp, ready_url: str, valkey: Valkey, three: Majority
) -> OpenAPI:
    urls = ",".join(three.urls)
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, LOCK_REDIS_URLS=urls)


def test_load_puts_every_script_on_the_server_and_status_says_so(
    app: OpenAPI, valkey: Valkey
) -> None:
    with valkey.client() as raw:
        raw.script_flush()
    run = app.test_cli_runner().invoke
    missing = run(args=["lua", "status", "--json"])
    assert missing.exit_code == 1
    assert not any(script["loaded"] for script in _scripts(missing.output))
    loaded = run(args=["lua", "load", "--json"])
    assert loaded.exit_code == 0
    assert run(args=["lua", "status"]).exit_code == 0
    (node,) = json.loads(loaded.output)["nodes"]
    assert (node["node"], node["role"]) == (valkey.address, "primary")
    assert [script["sha"] for script in node["scripts"]] == [s.sha for s in SCRIPTS.values()]
    with valkey.client() as raw:
        assert all(raw.script_exists(*(script.sha for script in SCRIPTS.values())))


def test_url_names_another_server(app: OpenAPI, valkey: Valkey) -> None:
    done = app.test_cli_runner().invoke(args=["lua", "load", "--url", valkey.url])
    assert done.exit_code == 0
    assert done.output.count("loaded") == len(SCRIPTS)


def test_the_servers_that_keep_the_locks_get_every_script_too(
    app_with_lock_servers: OpenAPI, valkey: Valkey, three: Majority
) -> None:
    run = app_with_lock_servers.test_cli_runner().invoke
    assert run(args=["lua", "status"]).exit_code == 1
    loaded = run(args=["lua", "load", "--json"])
    assert loaded.exit_code == 0
    addresses = [server.address for server in (valkey, *three.servers)]
    assert [node["node"] for node in json.loads(loaded.output)["nodes"]] == addresses
    assert all(script["loaded"] for script in _scripts(loaded.output))
    assert [_missing(server) for server in (valkey, *three.servers)] == [0, 0, 0, 0]
    status = run(args=["lua", "status"])
    assert status.exit_code == 0
    assert [line for line in status.output.splitlines() if not line.startswith(" ")] == [
        f"{address}  primary" for address in addresses
    ]


def test_a_server_that_forgot_one_script_is_told_from_the_others(
    app_with_lock_servers: OpenAPI, three: Majority
) -> None:
    run = app_with_lock_servers.test_cli_runner().invoke
    assert run(args=["lua", "load"]).exit_code == 0
    three.raw(three.servers[1]).script_flush()
    status = run(args=["lua", "status", "--json"])
    assert status.exit_code == 1
    missing = [
        node["node"]
        for node in json.loads(status.output)["nodes"]
        if not all(script["loaded"] for script in node["scripts"])
    ]
    assert missing == [three.servers[1].address]


@pytest.mark.parametrize("command", ["load", "status"])
def test_a_dead_lock_server_is_one_line_and_a_failure(
    app_with_lock_servers: OpenAPI, three: Majority, command: str
) -> None:
    three.servers[2].kill()
    refused = app_with_lock_servers.test_cli_runner().invoke(args=["lua", command])
    assert refused.exit_code == 1
    assert refused.output == "Error: Redis (operator): connection, ConnectionError\n"
    if command == "load":  # those before it are loaded
        assert [_missing(server) for server in three.running] == [0, 0]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://x", "--url: got 'http://x', takes redis://, rediss:// or unix://"),
        (f"redis://127.0.0.1:{free_port()}", "Redis (operator): connection"),
    ],
    ids=["another scheme", "nobody there"],
)
def test_a_server_that_cannot_be_used_is_one_line(app: OpenAPI, url: str, said: str) -> None:
    refused = app.test_cli_runner().invoke(args=["lua", "load", "--url", url])
    assert refused.exit_code == 1
    assert refused.output.startswith(f"Error: {said}")
    assert refused.output.count("\n") == 1


def test_a_new_script_is_refused_then_pinned_then_verified(tmp_path: Path) -> None:
    """The README's first recipe, in a copy of the project."""
    for name in ("app", "lua"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    neighbour = (tmp_path / "lua" / "tag_invalidate.v2.lua").read_text()
    changed = neighbour.replace("tag_invalidate v2", "tag_invalidate v3")
    (tmp_path / "lua" / "tag_invalidate.v3.lua").write_text(changed)

    refused = _flask(tmp_path, "lua", "verify")
    assert refused.returncode == 1
    assert "tag_invalidate.v3: not in manifest.json; pin it with" in refused.stderr
    assert _flask(tmp_path, "lua", "pin").stdout == "pinned tag_invalidate.v3\n"
    assert _flask(tmp_path, "lua", "verify").stdout == f"{len(SCRIPTS) + 1} scripts, as pinned.\n"


def _missing(server: Valkey) -> int:
    with server.client() as raw:
        return list(raw.script_exists(*(script.sha for script in SCRIPTS.values()))).count(False)


def _scripts(output: str) -> list[dict[str, object]]:
    return [script for node in json.loads(output)["nodes"] for script in node["scripts"]]


def _flask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment({}), capture_output=True, text=True, check=False
    )
