"""Routes that an extension limits by Flask-Limiter's decorators, within the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Response, make_response, request
from flask_openapi import OpenAPI

from tests.api.people import Person, json_of

Decorated = Callable[..., Person]


@pytest.fixture
def decorated(app: OpenAPI) -> Decorated:
    """Someone who asks for `/api/v1/extra`, whose view carries these limits."""

    def make(*limits: dict[str, Any]) -> Person:
        (limiter,) = app.extensions["limiter"]

        def extra() -> Response:
            return Response("", int(request.args.get("status", 200)))

        view: Any = extra
        for options in limits:
            view = limiter.limit(**options)(view)
        app.add_url_rule("/api/v1/extra", "extra", view)
        return Person(app, "dee")

    return make


def _bad(answer: Response) -> bool:
    return answer.status_code != 200


def left(answer: Any) -> str:
    return str(answer.headers["RateLimit"].split(";")[1])


def test_a_limit_that_was_not_deducted_after_the_answer_is_told_so(decorated: Decorated) -> None:
    dee = decorated({"limit_value": "3/minute", "deduct_when": _bad})
    answers = [dee.get(f"/extra?status={status}") for status in (200, 200, 404, 200, 404)]
    assert [left(each) for each in answers] == ["r=3", "r=3", "r=2", "r=2", "r=1"]
    assert answers[-1].headers["X-RateLimit-Remaining"] == "1"


def test_a_limit_twice_under_one_key_is_told_once_with_what_both_took(decorated: Decorated) -> None:
    dee = decorated(
        {"limit_value": "5/minute"}, {"limit_value": "5/minute", "error_message": "slowly"}
    )
    answers = [dee.get("/extra") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit-Policy"] for answer in answers] == [
        '"extra-60s";q=5;w=60'
    ] * 3
    assert [left(each) for each in answers] == ["r=3", "r=1", "r=1"]
    assert json_of(answers[-1])["errors"] == [
        {"field": "extra-60s", "message": "at most 5 in any 60 s"}
    ]


def test_two_limits_that_count_different_callers_have_names_of_their_own(
    decorated: Decorated,
) -> None:
    dee = decorated(
        {"limit_value": "5/minute"},
        {"limit_value": "5/minute", "key_func": lambda: "everybody"},
    )
    policy = dee.get("/extra").headers["RateLimit-Policy"]
    assert policy == '"extra-60s";q=5;w=60, "extra-60s-2";q=5;w=60'


def test_what_cannot_stand_in_a_header_is_left_out_of_a_policys_name(decorated: Decorated) -> None:
    dee = decorated({"limit_value": "5/minute", "scope": 'a"b\\c\n\u00e9'})
    assert dee.get("/extra").headers["RateLimit-Policy"] == '"extra:a_b_c__-60s";q=5;w=60'


def test_the_answer_that_a_limit_gives_for_itself_is_given(decorated: Decorated) -> None:
    dee = decorated({"limit_value": "1/minute", "on_breach": lambda _: make_response("own", 418)})
    answers = [dee.get("/extra") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 418]
    assert answers[1].text == "own"
    assert "Retry-After" not in answers[1].headers
