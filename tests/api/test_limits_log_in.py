"""Limits of log-ins and of callers without one: nobody evades them, and nobody locks one out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from flask import request
from flask_openapi import OpenAPI
from werkzeug.test import TestResponse

from app.api import limits
from app.services import accounts
from app.services.limit_rules import Budget
from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, json_of
from tests.support.redis_servers import Valkey

OWNER, OTHER = "203.0.113.5", "198.51.100.9"
ANN = "ann@example.com"


@pytest.fixture
def guarded(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    """5 log-ins a minute from an address, 2 of them to one account; behind a proxy."""
    app = make_app(
        DATABASE_URL=ready_url,
        REDIS_URL=valkey.url,
        RATE_LIMIT_LOGIN="5/minute",
        RATE_LIMIT_LOGIN_ACCOUNT="2/minute",
        RATE_LIMIT_READS="3/minute",
        TRUSTED_PROXIES="127.0.0.0/8",
    )
    parts = app.extensions["taskflow"]
    parts.accounts.create(email=ANN, password=PASSWORD, name="Ann", role="user")
    return app


def log_in(app: OpenAPI, email: str, *forwarded: str, password: str = "wrong") -> TestResponse:
    headers = [("X-Forwarded-For", line) for line in forwarded]
    body = {"email": email, "password": password}
    return app.test_client().post("/api/v1/sessions", json=body, headers=headers)


def statuses(answers: Sequence[TestResponse]) -> list[int]:
    return [answer.status_code for answer in answers]


def test_log_ins_to_one_account_are_limited_before_those_of_the_address(guarded: OpenAPI) -> None:
    answers = [log_in(guarded, ANN, OTHER) for _ in range(4)]
    assert statuses(answers) == [401, 401, 429, 429]
    refused = answers[2]
    assert json_of(refused)["errors"] == [
        {"field": "login-account-60s", "message": "at most 2 in any 60 s"}
    ]
    policies = '"login-60s";q=5;w=60, "login-account-60s";q=2;w=60'
    assert refused.headers["RateLimit-Policy"] == policies


def test_what_the_account_denies_takes_nothing_of_the_address(guarded: OpenAPI) -> None:
    assert statuses([log_in(guarded, ANN, OTHER) for _ in range(9)]) == [401] * 2 + [429] * 7
    others = [log_in(guarded, f"{n}@example.com", OTHER) for n in range(4)]
    assert statuses(others) == [401, 401, 401, 429]
    assert '"login-60s";r=2;' in others[0].headers["RateLimit"]
    (error,) = json_of(others[3])["errors"]
    assert error["field"] == "login-60s"


def test_both_limits_of_a_log_in_are_one_pipeline(guarded: OpenAPI, valkey: Valkey) -> None:
    parts = guarded.extensions["taskflow"]
    log_in(guarded, ANN, OTHER)
    parts.fleet.leave()  # its beat is a call of the same purpose
    counted = {"purpose": "limiter"}

    def pipelines() -> Any:
        name = "taskflow_redis_call_seconds_count"
        return parts.metrics.registry.get_sample_value(name, counted)

    before = pipelines()
    with valkey.client() as raw:
        raw.config_resetstat()
        log_in(guarded, ANN, OTHER)
        assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
    assert pipelines() - before == 1


def test_nobody_locks_an_accounts_owner_out_from_another_address(guarded: OpenAPI) -> None:
    assert statuses([log_in(guarded, ANN, OTHER) for _ in range(9)]) == [401] * 2 + [429] * 7
    assert log_in(guarded, ANN, OWNER, password=PASSWORD).status_code == 201


@pytest.fixture
def by_account_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log-ins counted by their account, wherever they come from."""
    chosen = {**limits.COUNTED_BY, Budget.LOGIN_ACCOUNT: lambda: f"login:{ANN}"}
    monkeypatch.setattr(limits, "COUNTED_BY", chosen)
    limits.parsed.cache_clear()
    yield
    limits.parsed.cache_clear()


@pytest.mark.usefixtures("by_account_alone")
def test_counting_by_the_account_alone_would_have_locked_its_owner_out(guarded: OpenAPI) -> None:
    """The control of the test above."""
    for _ in range(3):
        log_in(guarded, ANN, OTHER)
    assert log_in(guarded, ANN, OWNER, password=PASSWORD).status_code == 429


def test_another_spelling_of_the_account_is_no_way_round_its_limit(guarded: OpenAPI) -> None:
    spelt = ["ANN@example.com", " ann@Example.com ", "ann@ｅxample.com", "ann@example。com"]
    assert statuses([log_in(guarded, each, OTHER) for each in spelt]) == [401, 401, 429, 429]
    found = log_in(guarded, spelt[3], OWNER, password=PASSWORD)
    assert found.status_code == 201  # they do name that account


def test_what_is_no_log_in_at_all_counts_as_one(guarded: OpenAPI) -> None:
    client, headers = guarded.test_client(), {"X-Forwarded-For": OTHER}
    path = "/api/v1/sessions"
    bodies: list[dict[str, Any]] = [
        {"data": "{"},
        {"json": [1]},
        {"json": {"email": {"a": 1}}},
        {"data": "{", "content_type": "application/json"},
    ]
    answers = [client.post(path, headers=headers, **body) for body in bodies]
    assert statuses(answers) == [415, 422, 429, 429]  # none of them names an account


@pytest.mark.parametrize("email", ["a" * 1_000_000, "x" * 255 + "@example.com", None])
def test_what_cannot_be_an_address_is_not_read_as_one(
    guarded: OpenAPI, monkeypatch: pytest.MonkeyPatch, email: Any
) -> None:
    """Normalising takes time that grows with the text, and nests as deep as its reader."""
    read, normal = list[str](), accounts.normal_email

    def noted(each: object) -> str:
        read.append(str(each))
        return normal(each)

    monkeypatch.setattr(accounts, "normal_email", noted)
    client, headers = guarded.test_client(), {"X-Forwarded-For": OTHER}
    nested = f'{{"email": {"[" * 990}{"]" * 990}, "password": "{PASSWORD}"}}'
    body = orjson.dumps({"email": email, "password": PASSWORD}) if email else nested
    sent: dict[str, Any] = {"data": body, "content_type": "application/json", "headers": headers}
    answers = [client.post("/api/v1/sessions", **sent) for _ in range(3)]
    assert statuses(answers) == [422, 422, 429]
    assert read == []


def test_a_registration_counts_as_a_log_in(guarded: OpenAPI) -> None:
    client, headers = guarded.test_client(), {"X-Forwarded-For": OTHER}
    bodies = [{"email": f"p{n}@example.com", "password": PASSWORD, "name": "P"} for n in range(6)]
    answers = [client.post("/api/v1/accounts", json=body, headers=headers) for body in bodies]
    assert statuses(answers) == [201] * 5 + [429]


FORGED = [
    ["198.51.100.{}:{}, " + OTHER + ":471{}"],
    ["198.51.100.{}, " + OTHER],
    ["198.51.100.{}", OTHER],
    ["nonsense {}, , ,,", OTHER],
    ["2001:db8::{}, 10.0.0.{}, " + OTHER],
    ["127.0.0.{}, " + OTHER],
    ["198.51.100.{}, " + OTHER + ", 127.0.0.{}"],
    ["2001:db8:7:7::{}"],
    ["2001:db8:7:7:{}::1"],
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_client_that_writes_the_header_itself_is_the_same_client(
    guarded: OpenAPI, forged: list[str]
) -> None:
    assert _tried(guarded, forged) == [401, 401, 401, 429, 429, 429]


@pytest.mark.parametrize("forged", FORGED[:7])
def test_believing_the_leftmost_address_would_have_let_every_request_pass(
    guarded: OpenAPI, forged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""

    def leftmost(_: Any) -> str:
        return request.headers["X-Forwarded-For"].split(",")[0].strip()

    monkeypatch.setattr(limits, "client_address", leftmost)
    assert _tried(guarded, forged) == [401] * 6


def test_without_trusted_proxies_the_header_says_nothing(
    make_app: MakeApp, ready_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_READS="3/minute")
    assert _tried(app, ["198.51.100.{}"]) == [401, 401, 401, 429, 429, 429]


def test_the_policies_of_a_network_are_named_as_everybodys(guarded: OpenAPI) -> None:
    client = guarded.test_client()
    answer = client.get("/api/v1/projects", headers={"X-Forwarded-For": "2001:db8:7:7::1"})
    assert answer.headers["RateLimit-Policy"] == '"reads-60s";q=3;w=60'


def _tried(app: OpenAPI, forged: list[str]) -> list[int]:
    client = app.test_client()
    answers = []
    for number in range(1, 7):
        headers = [("X-Forwarded-For", line.replace("{}", str(number))) for line in forged]
        answers.append(client.get("/api/v1/projects", headers=headers))
    return statuses(answers)
