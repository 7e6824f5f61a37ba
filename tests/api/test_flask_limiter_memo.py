"""For how long is remembered what was decided for a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from limits import parse

from app.api.limiter import OneCallLimiter
from app.api.rate_memo import memo
from app.coordination.memory_rates import MemoryRates
from tests.api.flask_limiter_apps import add, two_plain
from tests.api.flask_limiter_cases import Case, client_of


@pytest.mark.parametrize("context", [Flask.app_context, Flask.test_request_context])
def test_a_look_by_hand_sees_the_window_pass(context: Callable[[Flask], Any]) -> None:
    now_us = [0]
    limiter = OneCallLimiter(MemoryRates(clock_us=lambda: now_us[0]), key_func=lambda: "me")
    app = client_of(limiter, Case("", two_plain, [], [])).application
    limit, by_hand = parse("1/minute"), limiter.limiter
    with context(app):
        assert [by_hand.hit(limit, "me", "a") for _ in range(2)] == [True, False]
        assert not by_hand.test(limit, "me", "a")
        now_us[0] = 60_000_000
        assert by_hand.test(limit, "me", "a")
        assert by_hand.get_window_stats(limit, "me", "a").remaining == 1


def test_what_was_decided_is_remembered_for_one_request_not_for_its_context() -> None:
    limiter = OneCallLimiter(MemoryRates(), key_func=lambda: "me", default_limits=["9/minute"])

    def view() -> str:
        return str(len(memo().decisions))

    app = client_of(limiter, Case("", lambda app, _: add(app, "/a", view), [], [])).application
    with app.app_context():
        assert [app.test_client().get("/a").text for _ in range(3)] == ["1"] * 3
        assert memo().decisions == []
