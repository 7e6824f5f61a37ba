"""Endpoints of which Flask-Limiter knows nothing: decided without its evaluation, until it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from flask import Blueprint, Response, jsonify, make_response
from flask_limiter import ApplicationLimit, ExemptionScope, Limiter, MetaLimit
from flask_limiter import Limit as LimitGroup
from flask_openapi import OpenAPI
from limits import parse

from app.api.limiter import OneCallLimiter
from app.api.modal_limit import ModalLimit
from app.api.rate_memo import Named
from app.api.rate_storage import limit_of
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.ports import free_port
from tests.support.redis_servers import Valkey

LIMITS = "4/minute;9/hour"
EVALUATION = ("_Limiter__filter_limits", "_Limiter__evaluate_limits")


@pytest.fixture
def app(make_app: MakeApp, ready_url: str, valkey: Valkey) -> OpenAPI:
    return make_app(DATABASE_URL=ready_url, REDIS_URL=valkey.url, RATE_LIMIT_READS=LIMITS)


@pytest.fixture
def limiter(app: OpenAPI) -> OneCallLimiter:
    (found,) = app.extensions["limiter"]
    assert isinstance(found, OneCallLimiter)
    return found


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of Flask-Limiter's evaluation was entered since, in order."""
    calls: list[str] = []

    def watch(name: str) -> None:
        real = getattr(Limiter, name)

        def entering(*args: Any) -> Any:
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(Limiter, name, entering)

    for name in EVALUATION:
        watch(name)
    return calls


def told(answer: Any) -> Mapping[str, str]:
    """What an answer says of its limits, without the seconds that pass."""
    names = ("RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining")
    return {name: answer.headers[name] for name in names if name in answer.headers}


FIRST = {
    "RateLimit-Policy": '"reads-60s";q=4;w=60, "reads-3600s";q=9;w=3600',
    "X-RateLimit-Limit": "4",
    "X-RateLimit-Remaining": "3",
}


def test_a_plain_endpoint_does_not_enter_flask_limiters_evaluation(
    ann: Person, entered: list[str]
) -> None:
    answer = ann.get("/projects")
    assert (answer.status_code, told(answer), entered) == (200, FIRST, [])


def test_who_is_denied_at_a_plain_endpoint_is_told_so_by_flask_limiter(
    limiter: OneCallLimiter, ann: Person, entered: list[str]
) -> None:
    limiter._on_breach = lambda breach: make_response(f"{breach.limit}, {breach.remaining}", 418)
    answers = [ann.get("/projects") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [418]
    assert answers[-1].text == "4 per 1 minute, 0"
    assert entered == ["_Limiter__evaluate_limits"]


def test_the_limits_of_a_plain_endpoint_are_told_to_its_view(
    app: OpenAPI, limiter: OneCallLimiter, entered: list[str]
) -> None:
    def view() -> Response:
        assert limiter.current_limit is not None
        left = [
            limiter.current_limit.remaining,
            *(each.remaining for each in limiter.current_limits),
        ]
        return jsonify([*left, len({each.key for each in limiter.current_limits})])

    app.add_url_rule("/api/v1/extra", "extra", view)
    ann = Person(app, "ann")
    assert [json_of(ann.get("/extra")) for _ in range(2)] == [[3, 3, 8, 2], [2, 2, 7, 2]]
    assert entered == []


def test_a_limited_block_within_a_plain_view_counts_the_defaults_no_second_time(
    app: OpenAPI, limiter: OneCallLimiter, entered: list[str]
) -> None:
    def view() -> str:
        with limiter.limit("8/day", override_defaults=False):
            return "in the block"

    app.add_url_rule("/api/v1/extra", "extra", view)
    ann = Person(app, "ann")
    policies = '"reads-60s";q=4;w=60, "reads-3600s";q=9;w=3600, "extra-86400s";q=8;w=86400'
    for left in ("3", "2"):
        answer = ann.get("/extra")
        assert (answer.headers["RateLimit-Policy"], answer.headers["X-RateLimit-Remaining"]) == (
            policies,
            left,
        )
    assert entered == [*EVALUATION] * 3  # the first time, nothing was known before the block


@pytest.mark.parametrize("who", ["me", "", "address:2001:db8::/64", "a/b/c"])
@pytest.mark.parametrize("cost", [1, 3])
def test_a_plain_limit_has_the_key_that_flask_limiter_has_for_it(who: str, cost: int) -> None:
    item = parse("5/2minutes")
    limit = ModalLimit(item, lambda: who, "a-scope", shared=True, cost=cost, shadow=True)
    key = item.key_for(who, "a-scope")
    assert limit.named(who) == Named(key, limit_of(key, 5, 120, cost)._replace(shadow=True))


@pytest.mark.parametrize("exempted", ["outer", "inner", "renamed", "nobody"])
def test_the_exemption_of_a_blueprint_acts_however_it_is_registered(
    app: OpenAPI, limiter: OneCallLimiter, exempted: str
) -> None:
    outer, inner, renamed = (Blueprint(name, __name__) for name in ("outer", "inner", "renamed"))
    for each in (inner, renamed):
        each.add_url_rule("", "view", lambda: "ok")
    outer.register_blueprint(inner)
    app.register_blueprint(outer, url_prefix="/api/v1/nested")
    app.register_blueprint(renamed, name="other", url_prefix="/api/v1/other")
    flags = ExemptionScope.DEFAULT | ExemptionScope.DESCENDENTS
    limiter.exempt(Blueprint(exempted, __name__), flags=flags)
    ann = Person(app, "ann")
    limited = {path: bool(told(ann.get(path))) for path in ("/nested", "/other", "/projects")}
    assert limited == {
        "/nested": exempted not in ("outer", "inner"),
        "/other": exempted != "renamed",
        "/projects": True,
    }


@pytest.mark.parametrize(("swallows", "status"), [(True, 401), (False, 503)])
def test_an_error_is_swallowed_where_the_limiter_is_told_to(
    make_app: MakeApp, ready_url: str, swallows: bool, status: int
) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}"
    env = {"DATABASE_URL": ready_url, "REDIS_URL": nobody, "RATELIMIT_ON_LOSS": "closed"}
    app = make_app(**env)
    (limiter,) = app.extensions["limiter"]
    limiter._swallow_errors = swallows
    assert app.test_client().get("/api/v1/projects").status_code == status


LIST = "projects.list_projects"


def _view(app: OpenAPI) -> Any:
    return app.view_functions[LIST]


def _blueprint(app: OpenAPI) -> Any:
    return app.blueprints["projects"]


def _limit_the_view(app: OpenAPI, limiter: OneCallLimiter) -> None:
    app.view_functions[LIST] = limiter.limit("1/minute")(_view(app))


def _limit_the_blueprint(app: OpenAPI, limiter: OneCallLimiter) -> None:
    limiter.limit("1/minute", override_defaults=False)(_blueprint(app))


def _limit_the_application(_app: OpenAPI, limiter: OneCallLimiter) -> None:
    limiter.limit_manager.set_application_limits([ApplicationLimit("1/minute").bind(limiter)])


def _add_a_default(_app: OpenAPI, limiter: OneCallLimiter) -> None:
    manager = limiter.limit_manager
    more = LimitGroup("1/minute", scope="more", shared=True).bind(limiter)
    manager.set_default_limits([*manager._default_limits, more])


def _use_up_a_meta_limit(_app: OpenAPI, limiter: OneCallLimiter) -> None:
    limiter._meta_limits.append(MetaLimit("1/day", key_function=lambda: "all").bind(limiter))
    limiter.limiter.hit(parse("1/day"), "all", "meta")


DEFAULTS = FIRST["RateLimit-Policy"]


class Declared(NamedTuple):
    """What an extension declares, and how the two requests after it are answered."""

    declare: Callable[[OpenAPI, OneCallLimiter], object]
    statuses: list[int]
    policies: str | None


DECLARED = {
    "a limit of the view": Declared(
        _limit_the_view, [200, 429], '"projects.list_projects-60s";q=1;w=60'
    ),
    "a limit of the blueprint": Declared(
        _limit_the_blueprint, [200, 429], f'{DEFAULTS}, "projects.list_projects-60s";q=1;w=60'
    ),
    "a limit of the application": Declared(
        _limit_the_application, [200, 429], f'"global-60s";q=1;w=60, {DEFAULTS}'
    ),
    "another default": Declared(_add_a_default, [200, 429], f'{DEFAULTS}, "more-60s";q=1;w=60'),
    "a meta limit": Declared(_use_up_a_meta_limit, [429, 429], DEFAULTS),
    "an exempt view": Declared(lambda app, ours: ours.exempt(_view(app)), [200, 200], None),
    "an exempt blueprint": Declared(
        lambda app, ours: ours.exempt(_blueprint(app)), [200, 200], None
    ),
    "a request filter": Declared(
        lambda _, ours: ours.request_filter(lambda: True), [200, 200], None
    ),
}


def _after(
    declared: Declared, app: OpenAPI, limiter: OneCallLimiter, ann: Person
) -> tuple[list[int], str | None]:
    """The statuses of two requests, and of which limits the last is told."""
    assert told(ann.get("/projects")) == FIRST
    declared.declare(app, limiter)
    answers = [ann.get("/projects") for _ in range(2)]
    return [answer.status_code for answer in answers], answers[-1].headers.get("RateLimit-Policy")


@pytest.mark.parametrize("name", DECLARED)
def test_what_an_extension_declares_acts_even_after_the_first_request(
    app: OpenAPI, limiter: OneCallLimiter, ann: Person, entered: list[str], name: str
) -> None:
    declared = DECLARED[name]
    assert _after(declared, app, limiter, ann) == declared[1:]
    assert entered.count(EVALUATION[0]) >= 2


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_would_not_act_on_an_endpoint_taken_for_plain(
    app: OpenAPI,
    limiter: OneCallLimiter,
    ann: Person,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """The control of the test above."""
    (defaults,) = limiter.limit_manager._default_limits
    monkeypatch.setattr(OneCallLimiter, "_plain_limits", lambda _: list(defaults))
    declared = DECLARED[name]
    assert _after(declared, app, limiter, ann) != declared[1:]
