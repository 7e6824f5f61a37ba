"""`flask limits` and `flask users plan`: what operators type, on a real database and Valkey."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result
from flask_openapi import OpenAPI
from structlog.testing import capture_logs

from tests.api.conftest import MakeApp
from tests.api.people import Person
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually


def run(app: OpenAPI, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=list(args))


def said(app: OpenAPI, *args: str) -> dict[str, Any]:
    """What a command answers with `--json`."""
    done = run(app, *args, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def usages(app: OpenAPI, *args: str) -> list[tuple[str, str, int, int, int]]:
    """Who has used how much of which limit, as `top` or `show` say."""
    found = said(app, "limits", *args)["usages"]
    keys = ("identity", "limit", "used", "amount", "window_s")
    return [tuple(usage[key] for key in keys) for usage in found]


@pytest.fixture
def small(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    return make_app(
        DATABASE_URL=ready_url,
        REDIS_URL=valkey.url,
        RATE_LIMIT_READS="10/minute",
        RATE_LIMIT_WRITES="4/minute;100/hour",
    )


@pytest.fixture
def writer(small: OpenAPI) -> Person:
    """Someone who has written 3 times and read once."""
    person = Person(small, "wes")
    for _ in range(3):
        person.project()
    person.get("/projects")
    return person


def account_of(app: OpenAPI, person: Person) -> str:
    return f"account:{app.extensions['taskflow'].accounts.id_of(person.email)}"


def used_by(who: str) -> list[tuple[str, str, int, int, int]]:
    return [
        (who, "reads/10/1/minute", 1, 10, 60),
        (who, "writes/100/1/hour", 3, 100, 3_600),
        (who, "writes/4/1/minute", 3, 4, 60),
    ]


def test_show_tells_what_an_account_has_used_by_id_or_address(
    small: OpenAPI, writer: Person
) -> None:
    who = account_of(small, writer)
    assert usages(small, "show", who) == used_by(who)
    assert usages(small, "show", " WES@example.com") == used_by(who)
    lines = run(small, "limits", "show", writer.email).output.splitlines()
    assert lines[2] == f" 75%  {who}  writes/4/1/minute  3 of 4 in 60 s"
    assert run(small, "limits", "show", "address:192.0.2.1").output == (
        "address:192.0.2.1 has used nothing.\n"
    )


V6 = "2001:db8:1:2::/64"
TYPED = [
    "2001:db8:1:2::9",
    "2001:DB8:1:2:0:0:0:9",
    "[2001:db8:1:2::9]:4711",
    "2001:db8:1:2::/64",
    "2001:DB8:1:2:0::/64",
]


def called_from(app: OpenAPI, address: str) -> None:
    app.test_client().get("/api/v1/projects", environ_overrides={"REMOTE_ADDR": address})


@pytest.mark.parametrize("typed", TYPED)
def test_an_address_may_be_typed_as_any_of_the_network_that_is_counted(
    small: OpenAPI, typed: str
) -> None:
    for last in range(1, 4):
        called_from(small, f"2001:db8:1:2::{last}")
    assert usages(small, "show", f"address:{typed}") == [
        (f"address:{V6}", "reads/10/1/minute", 3, 10, 60)
    ]
    assert said(small, "limits", "reset", f"address:{typed}")["limits"] == 1
    assert usages(small, "top") == []


@pytest.mark.parametrize("typed", ["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9:80"])
def test_an_ipv4_address_may_be_typed_as_it_stands_in_a_log(small: OpenAPI, typed: str) -> None:
    called_from(small, "203.0.113.9")
    who, *_ = usages(small, "show", f"address:{typed}")[0]
    assert who == "address:203.0.113.9"


def test_looking_takes_nothing(small: OpenAPI, writer: Person) -> None:
    who = account_of(small, writer)
    for _ in range(3):
        usages(small, "top")
        assert usages(small, "show", who) == used_by(who)


def test_top_shows_the_fullest_first(small: OpenAPI, writer: Person) -> None:
    who = account_of(small, writer)
    assert usages(small, "top", "--limit", "1") == [(who, "writes/4/1/minute", 3, 4, 60)]
    shares = [each["share"] for each in said(small, "limits", "top")["usages"]]
    assert shares == sorted(shares, reverse=True)
    # three of the account, two of its address at log-in, two of its log-in there
    assert len(shares) == 7
    assert run(small, "limits", "top").output.splitlines()[0].startswith(" 75%  account:")


def test_top_says_so_where_nobody_has_used_anything(small: OpenAPI) -> None:
    assert run(small, "limits", "top").output == "Nobody has used anything.\n"
    assert usages(small, "top") == []


def test_reset_lets_an_account_go_on_within_a_second(small: OpenAPI, writer: Person) -> None:
    assert writer.post("/projects", {"name": "A"}).status_code == 201
    assert [writer.post("/projects", {"name": "A"}).status_code for _ in range(3)] == [429] * 3
    who = account_of(small, writer)
    with capture_logs() as logs:
        assert said(small, "limits", "reset", who) == {"identity": who, "limits": 3}
    (line,) = logs
    assert (line["event"], line["identity"], line["limits"]) == ("limits.reset", who, 3)
    assert usages(small, "show", who) == []
    _eventually_written(writer)
    done = run(small, "limits", "reset", writer.email)
    assert done.output == f"{who}: 2 limits reset\n"
    assert said(small, "limits", "reset", who)["limits"] == 0


def _eventually_written(writer: Person) -> None:
    eventually(lambda: writer.post("/projects", {"name": "A"}).status_code == 201)


def test_reset_of_one_leaves_the_others_alone(small: OpenAPI, writer: Person) -> None:
    other = Person(small, "olga")
    other.project()
    said(small, "limits", "reset", writer.email)
    assert [usage[2] for usage in usages(small, "show", other.email)] == [1, 1]


def test_the_policies_are_those_of_the_settings_until_one_is_set(small: OpenAPI) -> None:
    found = said(small, "limits", "policy", "list")
    assert found["rules"] == []
    assert found["defaults"] == {
        "reads": "10/minute",
        "writes": "4/minute;100/hour",
        "batch": "1000/minute;20000/hour",
        "login": "20/minute;200/hour",
        "login-account": "10/minute;50/hour",
    }
    with capture_logs() as logs:
        done = run(small, "limits", "policy", "set", "plan:big", "reads", "900/minute;9/second")
    assert done.output == "plan:big reads: 900/minute;9/second\n"
    assert [line["event"] for line in logs] == ["limits.rule_set"]
    rule = {"subject": "plan:big", "budget": "reads", "limits": "900/minute;9/second"}
    assert said(small, "limits", "policy", "list")["rules"] == [rule]
    lines = run(small, "limits", "policy", "list").output.splitlines()
    assert [line.split() for line in (lines[0], lines[-1])] == [
        ["everybody", "reads", "10/minute"],
        ["plan:big", "reads", "900/minute;9/second"],
    ]


def test_a_policy_is_taken_back(small: OpenAPI) -> None:
    run(small, "limits", "policy", "set", "role:admin", "writes", "1/second")
    done = run(small, "limits", "policy", "unset", "role:admin", "writes")
    assert done.output == "role:admin writes: as the settings say\n"
    assert said(small, "limits", "policy", "list")["rules"] == []


def test_a_plan_is_given_and_its_rule_holds_for_the_account(small: OpenAPI, writer: Person) -> None:
    run(small, "limits", "policy", "set", "plan:big", "reads", "77/minute")
    given = run(small, "users", "plan", writer.email, "big")
    assert given.output == "wes@example.com is on the plan big.\n"
    policy = '"reads-60s";q=77;w=60'
    eventually(lambda: writer.get("/projects").headers["RateLimit-Policy"] == policy)
    assert run(small, "users", "plan", writer.email, "standard").exit_code == 0
    policy = '"reads-60s";q=10;w=60'
    eventually(lambda: writer.get("/projects").headers["RateLimit-Policy"] == policy)


BAD = [
    (["limits", "show", "wes"], "IDENTITY: account:<id>, address:<address> or an e-mail"),
    (["limits", "reset", ""], "IDENTITY: account:<id>, address:<address> or an e-mail"),
    (["limits", "show", "nobody@example.com"], "There is no such account."),
    (["limits", "reset", "nobody@example.com"], "There is no such account."),
    (["limits", "show", "address:wes"], "IDENTITY: 'wes' is no address"),
    (["limits", "reset", "address:999.1.1.1"], "IDENTITY: '999.1.1.1' is no address"),
    (["limits", "top", "--limit", "0"], "0 is not in the range"),
    (["limits", "policy", "set", "big", "reads", "1/minute"], "not 'big'."),
    (["limits", "policy", "set", "role:boss", "reads", "1/minute"], "not 'role:boss'."),
    (["limits", "policy", "set", "plan:big", "login", "1/minute"], "'login' is not one of"),
    (["limits", "policy", "set", "plan:big", "reads", "lots"], "not 'lots'."),
    (["limits", "policy", "set", "plan:big", "reads", "1/minute;" * 99], "Limits are"),
    (["limits", "policy", "unset", "plan:big", "reads"], "There is no such limit rule."),
    (["users", "plan", "nobody@example.com", "big"], "There is no such account."),
    (["users", "plan", "wes@example.com", "Big plan"], "not 'plan:Big plan'."),
]


@pytest.mark.parametrize(("args", "words"), BAD, ids=[" ".join(args)[:40] for args, _ in BAD])
def test_what_cannot_be_is_one_line_and_an_exit_code(
    small: OpenAPI, args: list[str], words: str
) -> None:
    refused = run(small, *args)
    assert refused.exit_code in (1, 2)
    assert words in refused.output.splitlines()[-1]
    assert refused.output.splitlines()[-1].startswith("Error: ")
    assert isinstance(refused.exception, SystemExit)


LOOKING = [["limits", "top"], ["limits", "show", "account:1"], ["limits", "reset", "account:1"]]


@pytest.mark.parametrize("args", LOOKING, ids=lambda args: args[1])
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


def test_rules_need_no_redis(make_app: MakeApp, ready_url: str) -> None:
    app = make_app(DATABASE_URL=ready_url)
    assert run(app, "limits", "policy", "set", "plan:big", "reads", "1/minute").exit_code == 0
    assert len(said(app, "limits", "policy", "list")["rules"]) == 1
