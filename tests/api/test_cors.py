"""Pages of other origins: none may read anything unless `CORS_ORIGINS` names them."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.api.conftest import MakeApp
from tests.api.people import Person

ORIGIN = "https://app.example.com"
ALLOWED = f"{ORIGIN},http://localhost:3000"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"}
TASK = "/api/v1/tasks/00000000-0000-7000-8000-000000000000"


@pytest.fixture
def ann(make_app: MakeApp, ready_url: str) -> Person:
    return Person(make_app(DATABASE_URL=ready_url, CORS_ORIGINS=ALLOWED), "ann")


@pytest.fixture
def browser(make_app: MakeApp, ready_url: str) -> FlaskClient:
    return make_app(DATABASE_URL=ready_url, CORS_ORIGINS=ALLOWED).test_client()


def told(headers: object) -> dict[str, str]:
    """What an answer says to browsers about other origins."""
    return {k: v for k, v in dict(headers).items() if k.startswith("Access-Control")}  # type: ignore[call-overload]


def test_by_default_no_origin_is_told_anything(client: FlaskClient) -> None:
    for answer in (
        client.get("/openapi.json", headers={"Origin": ORIGIN}),
        client.options(TASK, headers=PREFLIGHT),
    ):
        assert told(answer.headers) == {}
        assert "Origin" not in answer.headers.get("Vary", "")


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
def test_an_origin_that_is_named_may_read_answers_and_their_headers(
    ann: Person, origin: str
) -> None:
    answer = ann.get("/projects", headers={"Origin": origin})
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Vary"] == "Origin"
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"ETag", "Location", "Retry-After", "RateLimit", "X-Request-ID"} <= exposed


@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{ORIGIN}.evil.com", "null"])
def test_any_other_origin_is_told_nothing(ann: Person, origin: str) -> None:
    answer = ann.get("/projects", headers={"Origin": origin})
    assert (answer.status_code, told(answer.headers)) == (200, {})
    assert answer.headers["Vary"] == "Origin"
    assert told(ann.request("OPTIONS", TASK, headers={**PREFLIGHT, "Origin": origin}).headers) == {}


def test_refusals_may_be_read_too(browser: FlaskClient) -> None:
    answers = [browser.get(path, headers={"Origin": ORIGIN}) for path in (TASK, "/nothing")]
    assert [answer.status_code for answer in answers] == [401, 404]
    assert [a.headers["Access-Control-Allow-Origin"] for a in answers] == [ORIGIN] * 2


def test_a_preflight_needs_no_log_in_counts_for_no_limit_and_names_the_methods(
    browser: FlaskClient,
) -> None:
    answer = browser.options(TASK, headers=PREFLIGHT)
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    methods = set(answer.headers["Access-Control-Allow-Methods"].split(", "))
    assert methods == {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH"}
    sent = set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} <= sent
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert "RateLimit" not in answer.headers


def test_credentials_of_the_browser_are_never_asked_for(make_app: MakeApp, ready_url: str) -> None:
    """Tokens are sent by the page itself; so `*` lets nobody act for somebody else."""
    anyone = make_app(DATABASE_URL=ready_url, CORS_ORIGINS="*").test_client()
    for answer in (
        anyone.get("/openapi.json", headers={"Origin": "https://any.example"}),
        anyone.options(TASK, headers=PREFLIGHT),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
