"""`flask cache` before what is not ours, or not meant for a terminal."""

from __future__ import annotations

import json

import pytest
from flask_openapi import OpenAPI

from app.cli import shown
from tests.api.test_cache_commands import run, said
from tests.support.caches import Process
from tests.support.redis_servers import Valkey

ODD = "evil\x1b[31m\n\x85\u202e"
ESCAPED = r"evil\x1b[31m\n\x85\u202e"


@pytest.fixture
def odd(valkey: Valkey) -> None:
    """An entry whose namespace, key, tag and value would each speak to a terminal."""
    process = Process(valkey.url)
    process.cache.fetch(ODD, ODD, tags=["t\x1b[2J"], load=lambda: b"\x1b[31mred\nblue\xff")
    process.client.close()


def test_a_key_that_is_not_utf8_ends_no_command(app: OpenAPI, valkey: Valkey) -> None:
    with valkey.client() as raw:
        raw.set(b"tf:1:{bad\xff}:entry:x", b"1")
    views = said(app, "namespaces")["namespaces"]
    assert [(view["namespace"], view["entries"]) for view in views] == [("bad\\xff", 0)]
    assert said(app, "stats")["namespaces"] == 1
    for command in ("namespaces", "stats"):
        assert run(app, command).exit_code == 0


@pytest.mark.parametrize(
    "args",
    [("show", "\ud800"), ("show", "n", "\udcff"), ("invalidate", "n", "\ud800")],
    ids=["a namespace", "a key", "a tag"],
)
def test_an_argument_that_is_not_utf8_is_refused(app: OpenAPI, args: tuple[str, ...]) -> None:
    refused = run(app, *args)
    assert refused.exit_code == 2
    assert "is not UTF-8" in refused.output


@pytest.mark.usefixtures("odd")
def test_nothing_that_is_shown_speaks_to_the_terminal(app: OpenAPI) -> None:
    lines = {
        args: run(app, *args).output.splitlines()
        for args in (
            ("namespaces",),
            ("show", ODD),
            ("show", ODD, ODD),
            ("show", "no\x1b"),
            ("invalidate", ODD, "t"),
        )
    }
    assert [len(each) for each in lines.values()] == [1, 1, 3, 1, 1]
    assert all(line.isprintable() for each in lines.values() for line in each)
    assert lines["namespaces",][0].startswith(f"{ESCAPED}  1 entries")
    assert lines["show", ODD][0].endswith(rf"tags t\x1b[2J  {ESCAPED}")
    assert lines["show", ODD, ODD][1:] == [r"\x1b[31mred", "blue\ufffd"]


@pytest.mark.usefixtures("odd")
def test_as_json_it_is_what_it_is(app: OpenAPI) -> None:
    done = run(app, "show", ODD, ODD, "--json")
    assert done.output.isascii()
    found = json.loads(done.output)
    assert (found["namespace"], found["key"], found["tags"]) == (ODD, ODD, ["t\x1b[2J"])


@pytest.mark.parametrize("text", ["project:1", "Zoë 😀", "a b\\x1b"])
def test_what_is_printable_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text
