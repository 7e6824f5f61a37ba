"""Limits that are told by what a decorator above them, or a later hook, sets.

Flask-Limiter asks for them within the route, where it is known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, request
from flask_limiter import Limiter, MetaLimit

from tests.api.flask_limiter_apps import SetUp, add, decorated, named
from tests.api.flask_limiter_cases import TWO, A, Case


def user() -> str:
    """Whom a log-in told us, or else what everybody has in common."""
    return str(g.get("user", "nobody"))


def log_in(view: Callable[[], str]) -> Callable[[], str]:
    """Knows the user, or answers 401."""

    @wraps(view)
    def logged_in() -> str:
        g.user = request.args.get("user") or abort(401)
        return view()

    return logged_in


def logged_in(text: Any, **options: Any) -> SetUp:
    """`/a` with a limit of its own, behind a log-in."""

    def set_up(app: Flask, limiter: Limiter) -> None:
        add(app, "/a", log_in(limiter.limit(text, **options)(named("a"))))

    return set_up


def each_and_all_users(app: Flask, limiter: Limiter) -> None:
    limited = limiter.limit("1/minute", key_func=user)(limiter.limit("3/hour")(named("a")))
    add(app, "/a", log_in(limited))


def filtered_user(app: Flask, limiter: Limiter) -> None:
    limiter.request_filter(lambda: user() == "admin")
    logged_in("1/minute")(app, limiter)


def late_or_nobody(app: Flask, limiter: Limiter) -> None:
    """As `late_user`, with a key that is another one before."""

    def know_user() -> None:
        g.user = request.args["user"]

    limiter.init_app(app)
    app.before_request(know_user)
    decorated("2/minute", key_func=user)(app, limiter)


def late_text_of_a_blueprint(app: Flask, limiter: Limiter) -> None:
    """Whether the default applies is told by a blueprint's text, which only the route knows."""
    blueprint = Blueprint("texts", __name__)
    limiter.limit(lambda: "9/minute" if user() != "nobody" else "")(blueprint)
    limited = limiter.limit("8/minute", override_defaults=False)(named("a"))
    blueprint.add_url_rule("/a", "a", log_in(limited))
    app.register_blueprint(blueprint)


X, Y, Z, ADMIN = (f"GET /a?user={name}" for name in ("x", "y", "z", "admin"))


def _is_admin() -> bool:
    return user() == "admin"


LATE_CASES = [
    Case(
        "a key behind a log-in",
        logged_in("1/minute", key_func=user),
        [X, Y, Z, X, Y],
        [200] * 3 + [429] * 2,
    ),
    Case(
        "a key that is another one before a later hook",
        late_or_nobody,
        [X, X, Y, Y, Z, X],
        [200] * 5 + [429],
    ),
    Case(
        "an exemption behind a log-in",
        logged_in("1/minute", exempt_when=_is_admin),
        [ADMIN, ADMIN, X, X, ADMIN],
        [200, 200, 200, 429, 200],
    ),
    Case(
        "a filter behind a log-in",
        filtered_user,
        [ADMIN, ADMIN, X, X, ADMIN],
        [200, 200, 200, 429, 200],
    ),
    Case(
        "a text behind a log-in",
        logged_in(lambda: "3/minute" if _is_admin() else "1/minute"),
        [ADMIN, ADMIN, ADMIN, ADMIN, X],
        [200, 200, 200, 429, 200],
    ),
    Case(
        "a cost behind a log-in",
        logged_in("3/minute", cost=lambda: 1 if _is_admin() else 2),
        [ADMIN] * 4,
        [200] * 3 + [429],
    ),
    Case(
        "a scope behind a log-in",
        logged_in("1/minute", scope=lambda _: user()),
        [X, Y, X],
        [200, 200, 429],
    ),
    Case(
        "a text behind a log-in that overrides the default",
        late_text_of_a_blueprint,
        [X] * 4,
        [200] * 4,
        TWO,
    ),
    Case(
        "a message behind a log-in",
        logged_in("1/minute", error_message=lambda: str(g.user)),
        [X, X],
        [200, 429],
    ),
    Case(
        "a limit on being limited that is told behind a log-in",
        logged_in("1/minute", meta_limits=[MetaLimit("1/hour", key_function=user)]),
        [X, X, Y, X, Y, Z],
        [200, 429, 429, 418, 418, 429],
        {"on_meta_breach": lambda _: Response("", 418)},
    ),
    Case(
        "everybody's limit on being limited that is told behind a log-in",
        logged_in("1/minute"),
        [X, X, Y, X, Y, Z],
        [200, 429, 429, 418, 418, 429],
        {
            "meta_limits": [MetaLimit("1/hour", key_function=user)],
            "on_meta_breach": lambda _: Response("", 418),
        },
    ),
    Case(
        "what a key behind a log-in denies is not taken of a plain limit beside it",
        each_and_all_users,
        [X, X, X, X, X, Y, Z, ADMIN],
        [200] + [429] * 4 + [200, 200, 429],
    ),
    Case(
        "an answer of the log-in that is not deducted",
        logged_in("2/minute", deduct_when=lambda answer: answer.status_code == 200),
        [A, A, A, X, X, X],
        [401] * 3 + [200, 200, 429],
    ),
]
