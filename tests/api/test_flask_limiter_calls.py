"""What Flask-Limiter costs and admits on a real Valkey, and its commands.

The controls evaluate the limits one by one, as the library does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response
from flask_limiter import Limiter
from flask_limiter.commands import cli
from limits import RateLimitItemPerMinute, parse

from app.api.limiter import OneCallLimiter
from app.api.rate_memo import memo
from app.coordination.client import ScriptClient, from_url
from app.coordination.deny_memo import DenyMemo
from app.coordination.rate_limit import RedisRates
from app.coordination.scripts import ScriptRegistry
from app.errors import InvalidInput
from app.metrics import Metrics
from tests.api.flask_limiter_apps import decorated
from tests.api.flask_limiter_cases import Case, client_of, statuses
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

AT_ONCE, AMOUNT = 12, 5


class OneByOne(OneCallLimiter):
    """The control: Flask-Limiter's own evaluation, on our storage."""

    _Limiter__evaluate_limits = getattr(Limiter, "_Limiter__evaluate_limits")  # noqa: B009


@pytest.fixture
def rates(valkey: Valkey) -> Iterator[RedisRates]:
    topology, options = from_url(valkey.url)
    client = ScriptClient(
        purpose="limiter", topology=topology, options=options, timeout_s=10, metrics=Metrics()
    )
    yield RedisRates(client, ScriptRegistry.from_folder())
    client.close()


def evalshas(valkey: Valkey, work: Callable[[], Any]) -> int:
    with valkey.client() as raw:
        raw.config_resetstat()
        work()
        return int(raw.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def busy_app(limiter: Limiter) -> Flask:
    """A decorated route under a limit of the application."""
    app = Flask("busy")

    @app.get("/a")
    @limiter.limit("2/minute;9/hour")
    def a() -> str:
        return "ok"

    limiter.init_app(app)
    return app


@pytest.mark.parametrize(("kind", "calls"), [(OneCallLimiter, 1), (OneByOne, 3)])
def test_a_decorated_route_under_an_application_limit_is_one_call(
    valkey: Valkey, rates: RedisRates, kind: type[OneCallLimiter], calls: int
) -> None:
    limiter = kind(rates, key_func=lambda: "me", application_limits=["20/minute"])
    client = busy_app(limiter).test_client()
    client.get("/a")  # the server learns the script
    assert evalshas(valkey, lambda: client.get("/a")) == calls


@pytest.mark.parametrize(("kind", "left"), [(OneCallLimiter, (18, 7)), (OneByOne, (14, 7))])
def test_a_request_that_the_route_denies_has_taken_nothing_of_the_application(
    rates: RedisRates, kind: type[OneCallLimiter], left: tuple[int, int]
) -> None:
    limiter = kind(rates, key_func=lambda: "me", application_limits=["20/minute"])
    client = busy_app(limiter).test_client()
    assert [client.get("/a").status_code for _ in range(6)] == [200] * 2 + [429] * 4
    told = [
        limiter.limiter.get_window_stats(parse(text), "me", scope).remaining
        for text, scope in (("20/minute", "global"), ("9/hour", "a"))
    ]
    assert tuple(told) == left


@pytest.mark.parametrize(("kind", "calls"), [(OneCallLimiter, 1), (OneByOne, 5)])
def test_meta_limits_are_looked_at_in_the_same_call(
    valkey: Valkey, rates: RedisRates, kind: type[OneCallLimiter], calls: int
) -> None:
    options: dict[str, Any] = {"application_limits": ["20/minute"], "meta_limits": ["5/hour"]}
    client = busy_app(kind(rates, key_func=lambda: "me", **options)).test_client()
    client.get("/a")
    assert evalshas(valkey, lambda: client.get("/a")) == calls


def test_a_breach_that_a_meta_limit_counts_keeps_its_retry_after(rates: RedisRates) -> None:
    limiter = OneCallLimiter(rates, key_func=lambda: "me", meta_limits=["5/hour"])
    app = busy_app(limiter)
    app.register_error_handler(429, lambda _: (str(memo().retry_after_s), 429))
    client = app.test_client()
    answers = [client.get("/a") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 0 < int(answers[-1].text) <= 60


def test_who_goes_on_though_denied_costs_no_call(valkey: Valkey, rates: RedisRates) -> None:
    client = busy_app(OneCallLimiter(DenyMemo(rates), key_func=lambda: "me")).test_client()
    assert [client.get("/a").status_code for _ in range(3)] == [200, 200, 429]
    assert evalshas(valkey, lambda: [client.get("/a") for _ in range(5)]) == 0


def test_a_key_is_a_slot_of_its_own_behind_the_prefix(valkey: Valkey, rates: RedisRates) -> None:
    limiter = OneCallLimiter(rates, key_func=lambda: "10.0.0.0/8", key_prefix="mine")
    busy_app(limiter).test_client().get("/a")
    with valkey.client() as raw:
        slot = "tf:1:{mine/10.0.0.0/8}:rate:a"
        assert sorted(raw.keys("*:rate:*")) == [f"{slot}/2/1/minute", f"{slot}/9/1/hour"]


@pytest.mark.parametrize(
    ("identifiers", "log"),
    [
        ((), "{LIMITER/2/1/minute}:rate:2/1/minute"),
        (("me",), "{me}:rate:2/1/minute"),
        (("me", "a"), "{me}:rate:a/2/1/minute"),
    ],
)
def test_the_first_of_the_identifiers_is_whose_log_it_is(
    valkey: Valkey, rates: RedisRates, identifiers: tuple[str, ...], log: str
) -> None:
    limiter = OneCallLimiter(rates, key_func=lambda: "me")
    busy_app(limiter)
    assert limiter.limiter.hit(parse("2/minute"), *identifiers)
    with valkey.client() as raw:
        assert raw.keys("*:rate:*") == [f"tf:1:{log}"]


def test_another_namespace_begins_the_limits_name(valkey: Valkey, rates: RedisRates) -> None:
    limiter = OneCallLimiter(rates, key_func=lambda: "me")
    busy_app(limiter)
    assert limiter.limiter.hit(RateLimitItemPerMinute(2, namespace="OTHER"), "me", "a")
    with valkey.client() as raw:
        assert raw.keys("*:rate:*") == ["tf:1:{me}:rate:OTHER//a/2/1/minute"]


def test_who_goes_on_though_denied_costs_no_call_for_a_limit_that_is_not_deducted(
    valkey: Valkey, rates: RedisRates
) -> None:
    limiter = OneCallLimiter(DenyMemo(rates), key_func=lambda: "me")
    app = Flask("conditional")

    @app.get("/a")
    @limiter.limit("9/minute", deduct_when=lambda answer: answer.status_code == 200)
    @limiter.limit("1/hour")
    def a() -> str:
        return "ok"

    limiter.init_app(app)
    client = app.test_client()
    assert [client.get("/a").status_code for _ in range(2)] == [200, 429]
    assert evalshas(valkey, lambda: [client.get("/a") for _ in range(5)]) == 0


def test_a_limit_beyond_what_a_log_can_count_is_refused(rates: RedisRates) -> None:
    most = 2**32 - 1
    for amount, cost in ((most, most), (most, 2**40), (most + 1, 1)):
        limiter = OneCallLimiter(rates, key_func=lambda: "me")
        case = Case("", decorated(f"{amount}/minute", cost=cost), [], [], {}, {"TESTING": True})
        client = client_of(limiter, case)
        if amount > most:
            with pytest.raises(InvalidInput, match="at most 4294967295, not 4294967296"):
                client.get("/a")
        else:
            assert statuses(client, ["GET /a"] * 2) == [200 if cost == most else 429, 429]


class Crowd:
    """Requests at once; the view answers only when all of them are in it, or were denied."""

    def __init__(self, limiter: Limiter, status: int) -> None:
        self._arrived, self._lock = 0, threading.Lock()
        self._app = Flask("crowd")

        @self._app.get("/")
        @limiter.limit(f"{AMOUNT}/minute", deduct_when=lambda answer: answer.status_code == 400)
        def view() -> Response:
            self._arrive()
            eventually(lambda: self._arrived == AT_ONCE, what="all of the crowd")
            return Response("", status)

        limiter.init_app(self._app)

    def statuses(self) -> list[int]:
        self._arrived = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sorted(pool.map(lambda _: self._ask(), range(AT_ONCE)))

    def _ask(self) -> int:
        status = self._app.test_client().get("/").status_code
        if status == 429:
            self._arrive()
        return status

    def _arrive(self) -> None:
        with self._lock:
            self._arrived += 1


def test_a_limit_deducted_after_the_answer_admits_no_more_at_once(rates: RedisRates) -> None:
    crowd = Crowd(OneCallLimiter(rates, key_func=lambda: "me"), 400)
    assert crowd.statuses() == [400] * AMOUNT + [429] * (AT_ONCE - AMOUNT)


def test_looking_first_and_deducting_after_would_have_admitted_all() -> None:
    """The control of the test above: Flask-Limiter as it comes."""
    stock = Limiter(key_func=lambda: "me", storage_uri="memory://", strategy="moving-window")
    assert Crowd(stock, 400).statuses() == [400] * AT_ONCE


def test_what_is_not_deducted_is_given_back(rates: RedisRates) -> None:
    limiter = OneCallLimiter(rates, key_func=lambda: "me")
    crowd = Crowd(limiter, 200)
    for _ in range(2):
        assert crowd.statuses() == [200] * AMOUNT + [429] * (AT_ONCE - AMOUNT)
        stats = limiter.limiter.get_window_stats(parse(f"{AMOUNT}/minute"), "me", "view")
        assert stats.remaining == AMOUNT


@pytest.fixture
def commanded(rates: RedisRates) -> Callable[..., str]:
    limiter = OneCallLimiter(rates, key_func=lambda: "me", default_limits=["7/minute"])
    app = busy_app(limiter)
    app.test_client().get("/a")

    def run(*args: str) -> str:
        done = app.test_cli_runner().invoke(cli, args)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_the_librarys_command_shows_the_configuration(commanded: Callable[..., str]) -> None:
    said = commanded("config")
    for part in ("MovingWindowRateLimiter", "taskflow://", "ScriptStorage", "RedisRates", "OK"):
        assert part in said


def test_the_librarys_command_shows_and_clears_a_key(commanded: Callable[..., str]) -> None:
    assert "2 per 1 minute: Pass (1 out of 2 remaining)" in commanded("limits", "--key", "me")
    assert "2 per 1 minute: Pass (1 out of 2 remaining)" in commanded("limits", "--key", "me")
    assert "2 per 1 minute: Cleared" in commanded("clear", "--key", "me", "-y")
    assert "9 per 1 hour: Pass (9 out of 9 remaining)" in commanded("limits", "--key", "me")
