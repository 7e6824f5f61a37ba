"""Flask-Limiter's own surface, with one decision for each request: as the library itself does it.

Every case runs three times: on the library as it comes, on one process's limits, and on Valkey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, jsonify, make_response
from flask.testing import FlaskClient
from flask_limiter import Limiter
from flask_openapi import OpenAPI
from limits import RateLimitItemPerMinute, parse

from app.api.limiter import STRATEGIES, OneCallLimiter
from app.api.schemas.accounts import Registration
from app.coordination.absent import NoRedis
from app.coordination.client import ScriptClient, from_url
from app.coordination.memory_rates import MemoryRates
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.scripts import ScriptRegistry
from app.errors import InvalidInput, LimitsUnavailable
from app.metrics import Metrics
from tests.api.flask_limiter_apps import add, decorated, two_plain
from tests.api.flask_limiter_cases import CASES, Case, client_of, statuses
from tests.api.flask_limiter_late_cases import LATE_CASES
from tests.support.redis_servers import Valkey

KINDS = ("the library", "one process", "valkey")
NewLimiter = Callable[..., Limiter]


@pytest.fixture
def valkey_rates(valkey: Valkey) -> Iterator[RedisRates]:
    topology, options = from_url(valkey.url)
    client = ScriptClient(
        purpose="limiter", topology=topology, options=options, timeout_s=10, metrics=Metrics()
    )
    yield RedisRates(client, ScriptRegistry.from_folder())
    client.close()


@pytest.fixture(params=KINDS)
def new_limiter(request: pytest.FixtureRequest) -> NewLimiter:
    """A limiter of each kind, whose callers are all `me`."""

    def new(**options: Any) -> Limiter:
        options = {"key_func": lambda: "me", **options}
        if request.param == "the library":
            return Limiter(storage_uri="memory://", strategy="moving-window", **options)
        by_process = request.param == "one process"
        rates = MemoryRates() if by_process else request.getfixturevalue("valkey_rates")
        return OneCallLimiter(rates, **options)

    return new


@pytest.mark.parametrize("case", CASES + LATE_CASES, ids=lambda case: case.name)
def test_flask_limiter_works_as_it_comes(new_limiter: NewLimiter, case: Case) -> None:
    client = client_of(new_limiter(**case.options), case)
    assert statuses(client, case.requests) == case.statuses


def test_the_librarys_headers_tell_what_is_left_after_this_request(new_limiter: NewLimiter) -> None:
    case = Case("", decorated("3/minute;9/hour"), [], [])
    client = client_of(new_limiter(headers_enabled=True), case)
    told = [client.get("/a").headers for _ in range(4)]
    assert [headers["X-RateLimit-Limit"] for headers in told] == ["3"] * 4
    assert [headers["X-RateLimit-Remaining"] for headers in told] == ["2", "1", "0", "0"]
    assert all(58 <= int(headers["Retry-After"]) <= 60 for headers in told)


def test_the_headers_of_a_conditional_limit_tell_what_was_deducted(
    new_limiter: NewLimiter,
) -> None:
    set_up = decorated("3/minute", deduct_when=lambda answer: answer.status_code == 200)
    client = client_of(new_limiter(headers_enabled=True), Case("", set_up, [], []))
    left = [client.get("/a").headers["X-RateLimit-Remaining"] for _ in range(2)]
    set_up = decorated("3/minute", deduct_when=lambda answer: answer.status_code != 200)
    other = client_of(
        new_limiter(headers_enabled=True, key_prefix="other"), Case("", set_up, [], [])
    )
    left += [other.get("/a").headers["X-RateLimit-Remaining"] for _ in range(2)]
    assert left == ["2", "1", "3", "3"]


def test_the_current_limit_is_told_to_the_view(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(default_limits=["5/minute", "9/hour"])

    def view() -> Response:
        assert limiter.current_limit is not None
        return jsonify([each.remaining for each in limiter.current_limits])

    client = client_of(limiter, Case("", lambda app, _: add(app, "/a", view), [], []))
    assert [client.get("/a").get_json() for _ in range(2)] == [[4, 8], [3, 7]]


def test_a_breach_calls_the_extensions_callback_and_the_limits_own(
    new_limiter: NewLimiter,
) -> None:
    called: list[str] = []

    def everybodys(limit: Any) -> Response:
        called.append(f"everybody's, {limit.remaining} left, breached {limit.breached}")
        return make_response("everybody's", 429)

    def own(limit: Any) -> Response:
        called.append(f"own, {limit.limit}")
        return make_response("own", 418)

    limiter = new_limiter(on_breach=everybodys, default_limits=["1/minute"])
    client = client_of(limiter, Case("", decorated("1/minute", on_breach=own), [], []))
    assert statuses(client, ["GET /a", "GET /b"]) == [200, 200]
    assert called == []
    assert (client.get("/a").status_code, client.get("/b").text) == (418, "everybody's")
    all_ = "everybody's, 0 left, breached True"
    assert called == [all_, "own, 1 per 1 minute", all_]


def test_an_error_message_is_in_the_answer(new_limiter: NewLimiter) -> None:
    set_up = decorated("1/minute", error_message=lambda: "not so fast")
    client = client_of(new_limiter(), Case("", set_up, [], []))
    client.get("/a")
    assert "not so fast" in client.get("/a").text


def test_meta_limits_count_breaches_and_then_refuse_everything(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(
        default_limits=["2/minute"],
        meta_limits=["2/hour"],
        on_meta_breach=lambda _: make_response("meta", 429),
    )
    client = client_of(limiter, Case("", two_plain, [], []))
    told = [client.get("/a") for _ in range(6)]
    assert [answer.status_code for answer in told] == [200, 200, 429, 429, 429, 429]
    assert [answer.text == "meta" for answer in told] == [False] * 4 + [True] * 2
    assert client.get("/b").text == "meta"


def test_a_request_that_passes_takes_nothing_of_a_meta_limit(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(default_limits=["9/minute"], meta_limits=["1/hour"])
    client = client_of(limiter, Case("", two_plain, [], []))
    assert statuses(client, ["GET /a"] * 11) == [200] * 9 + [429] * 2
    assert statuses(client, ["GET /b"]) == [429]


def test_a_key_is_cleared_through_the_library(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(default_limits=["1/minute"])
    client = client_of(limiter, Case("", two_plain, [], []))
    assert statuses(client, ["GET /a", "GET /a", "GET /b"]) == [200, 429, 200]
    (default,) = limiter.limit_manager.default_limits
    limiter.limiter.clear(default.limit, "me", "a")
    assert statuses(client, ["GET /a", "GET /a", "GET /b"]) == [200, 429, 429]
    limiter.storage.clear(default.limit.key_for("me", "b"))
    assert statuses(client, ["GET /b", "GET /a"]) == [200, 429]


def test_an_error_is_raised_or_swallowed_as_configured() -> None:
    def refuses(**options: Any) -> FlaskClient:
        rates = RedisRates(NoRedis("limiter"), ScriptRegistry.from_folder(), on_loss=OnLoss.CLOSED)
        limiter = OneCallLimiter(rates, key_func=lambda: "me", **options)
        return client_of(limiter, Case("", decorated("1/minute"), [], [], config={"TESTING": True}))

    client = refuses(swallow_errors=True, application_limits=["9/minute"])
    assert statuses(client, ["GET /a"] * 3) == [200] * 3
    with pytest.raises(LimitsUnavailable):
        refuses().get("/a")


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_each_name_of_a_strategy_means_the_sliding_window(strategy: str) -> None:
    limiter = OneCallLimiter(MemoryRates(), key_func=lambda: "me", strategy=strategy)
    case = Case("", decorated("2/minute"), [], [], config={"RATELIMIT_STRATEGY": strategy})
    assert statuses(client_of(limiter, case), ["GET /a"] * 3) == [200, 200, 429]
    assert type(limiter.limiter).__name__ == "MovingWindowRateLimiter"


def test_an_unknown_strategy_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="fixed-window, moving-window, sliding-window-counter"):
        OneCallLimiter(MemoryRates(), key_func=lambda: "me", strategy="leaky-bucket")
    limiter = OneCallLimiter(MemoryRates(), key_func=lambda: "me")
    app = Flask("plain")
    app.config["RATELIMIT_STRATEGY"] = "leaky-bucket"
    with pytest.raises(InvalidInput, match="not 'leaky-bucket'"):
        limiter.init_app(app)


def test_hits_by_hand_need_no_request(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(default_limits=["2/minute"])
    client_of(limiter, Case("", two_plain, [], []))
    (default,) = limiter.limit_manager.default_limits
    assert [limiter.limiter.hit(default.limit, "by hand") for _ in range(3)] == [True, True, False]
    assert not limiter.limiter.test(default.limit, "by hand")
    limiter.limiter.clear(default.limit, "by hand")
    assert limiter.limiter.get_window_stats(default.limit, "by hand").remaining == 2


def test_limits_are_told_apart_as_the_library_tells_them(new_limiter: NewLimiter) -> None:
    limits = [RateLimitItemPerMinute(1), RateLimitItemPerMinute(1, namespace="OTHER")]
    identifiers = [(), ("",), ("me",), ("me", "a"), ("me", "OTHER"), ("net/8", "a"), ("", "a")]
    asked = [(limit, each) for limit in limits for each in identifiers]
    limiter = new_limiter()
    client_of(limiter, Case("", two_plain, [], []))
    by_hand = limiter.limiter
    assert [by_hand.hit(limit, *each) for limit, each in asked] == [True] * len(asked)
    assert [by_hand.hit(limit, *each) for limit, each in asked] == [False] * len(asked)


def test_a_hit_by_hand_is_told_in_the_headers_of_the_same_limit(new_limiter: NewLimiter) -> None:
    limiter = new_limiter(headers_enabled=True)

    def view() -> str:
        limiter.limiter.hit(parse("5/minute"), "me", "view")
        return "ok"

    limited = limiter.limit("5/minute")(view)
    client = client_of(limiter, Case("", lambda app, _: add(app, "/view", limited), [], []))
    left = [client.get("/view").headers["X-RateLimit-Remaining"] for _ in range(3)]
    assert left == ["3", "1", "0"]


@pytest.mark.parametrize(
    ("decided_ahead", "expected"), [(True, [422] * 3 + [429] * 5), (False, [422] * 8)]
)
def test_a_decorated_limit_counts_what_validation_refuses_as_the_library_itself_does_not(
    decided_ahead: bool, expected: list[int]
) -> None:
    """With its control: Flask-Limiter as it comes looks at a decorator's limits too late."""
    app = OpenAPI("decorated")
    limiter = (
        OneCallLimiter(MemoryRates(), key_func=lambda: "someone")
        if decided_ahead
        else Limiter(key_func=lambda: "someone", storage_uri="memory://")
    )

    @app.post("/things")
    @limiter.limit("3/minute")
    def make(body: Registration) -> str:
        return body.name

    limiter.init_app(app)
    client = app.test_client()
    assert [client.post("/things", json={}).status_code for _ in range(8)] == expected


def test_a_decorated_route_passes_while_redis_is_away() -> None:
    rates = RedisRates(NoRedis("limiter"), ScriptRegistry.from_folder())
    limiter = OneCallLimiter(rates, key_func=lambda: "someone")
    client = client_of(limiter, Case("", decorated("1/minute"), [], []))
    assert statuses(client, ["GET /a"] * 3) == [200] * 3


def test_the_private_hooks_of_flask_limiter_are_still_there() -> None:
    assert callable(getattr(Limiter, "_Limiter__evaluate_limits"))  # noqa: B009  a mangled name
    assert callable(getattr(Limiter, "_Limiter__check_conditional_deductions"))  # noqa: B009
    limiter = Limiter(key_func=lambda: "me")
    assert limiter._meta_limits == []
    assert limiter._request_filters == []
    manager = limiter.limit_manager
    assert manager._decorated_limits == manager._blueprint_limits == {}
    assert manager._default_limits == []
