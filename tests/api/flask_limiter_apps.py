"""Applications as Flask-Limiter's manual has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, g, request
from flask.views import MethodView
from flask_limiter import ExemptionScope, Limiter, RateLimitExceeded
from limits import parse

SetUp = Callable[[Flask, Limiter], None]


def _view() -> str:
    return "ok"


def add(
    app: Flask, path: str, view: Any = _view, methods: tuple[str, ...] = ("GET", "POST")
) -> None:
    app.add_url_rule(path, path.strip("/"), view, methods=list(methods))


def named(name: str) -> Callable[[], str]:
    """A view of its own: Flask-Limiter tells them apart by name."""

    def view() -> str:
        return "ok"

    view.__qualname__ = name
    return view


def two_plain(app: Flask, _: Limiter) -> None:
    add(app, "/a", named("a"))
    add(app, "/b", named("b"))


def decorated(text: str, **options: Any) -> SetUp:
    """`/a` with a limit of its own, `/b` without."""

    def set_up(app: Flask, limiter: Limiter) -> None:
        add(app, "/a", limiter.limit(text, **options)(named("a")))
        add(app, "/b", named("b"))

    return set_up


def shared(app: Flask, limiter: Limiter) -> None:
    for name in ("a", "b"):
        add(app, f"/{name}", limiter.shared_limit("3/minute", scope="both")(named(name)))


def exempt(app: Flask, limiter: Limiter) -> None:
    add(app, "/a", limiter.exempt(named("a")))
    add(app, "/b", limiter.exempt(named("b"), flags=ExemptionScope.APPLICATION))


def nested(app: Flask, limiter: Limiter) -> None:
    add(app, "/a", limiter.limit("3/minute")(limiter.limit("5/hour")(named("a"))))


def twice(text: str, **options: Any) -> SetUp:
    """A limit with `options` around a plain one of the same text, and so of the same key."""

    def set_up(app: Flask, limiter: Limiter) -> None:
        inner = limiter.limit("5/minute")(named("a"))
        add(app, "/a", limiter.limit(text, **options)(inner))

    return set_up


def status_asked(app: Flask, limiter: Limiter) -> None:
    def view() -> Response:
        return Response("x", int(request.args["status"]))

    failures = limiter.limit("2/minute", deduct_when=lambda answer: answer.status_code != 200)
    add(app, "/a", failures(view))


def with_block(app: Flask, limiter: Limiter) -> None:
    def guarded() -> Response:
        try:
            with limiter.limit("2/minute", scope="inside"):
                return Response("ok")
        except RateLimitExceeded:
            return Response("slow", 202)

    add(app, "/a", limiter.limit("4/minute")(guarded))


def with_block_in_a_loop(app: Flask, limiter: Limiter) -> None:
    def loop() -> str:
        for _ in range(2):
            with limiter.limit("5/minute"):
                pass
        return "ok"

    add(app, "/a", loop)


def conditional_block_in_a_loop(app: Flask, limiter: Limiter) -> None:
    def loop() -> Response:
        status = int(request.args["status"])
        for _ in range(2):
            with limiter.limit("4/minute", deduct_when=lambda answer: answer.status_code == 200):
                pass
        return Response("", status)

    add(app, "/a", loop)


def helper(app: Flask, limiter: Limiter) -> None:
    limited = limiter.limit("2/minute")(named("helper"))

    def view() -> str:
        return str(limited())

    add(app, "/a", view)


def blueprints(app: Flask, limiter: Limiter) -> None:
    limited, free, own = (Blueprint(name, __name__) for name in ("limited", "free", "own"))
    for blueprint in (limited, free, own):
        blueprint.add_url_rule(f"/{blueprint.name}", "view", named(blueprint.name))
    own.add_url_rule("/decorated", "other", limiter.limit("3/minute")(named("decorated")))
    limiter.limit("2/minute")(limited)
    limiter.limit("1/minute")(own)
    limiter.exempt(free)
    for blueprint in (limited, free, own):
        app.register_blueprint(blueprint)


def filtered(app: Flask, limiter: Limiter) -> None:
    limiter.request_filter(lambda: "free" in request.args)
    decorated("2/minute")(app, limiter)


def by_hand(app: Flask, limiter: Limiter) -> None:
    def view() -> Response:
        passes = [limiter.limiter.hit(parse("3/minute"), "by hand") for _ in range(2)]
        return Response("", 200 if all(passes) else 202)

    add(app, "/a", view)


def forgiving(app: Flask, limiter: Limiter) -> None:
    """A good answer clears what was used up, as log-ins do."""

    def view() -> Response:
        if "good" in request.args:
            limiter.limiter.clear(parse("3/minute"), "me", "a")
        return Response("", 200 if "good" in request.args else 202)

    bad = limiter.limit("3/minute", deduct_when=lambda answer: answer.status_code == 202)
    add(app, "/a", bad(view))


def looking_after_clearing(app: Flask, limiter: Limiter) -> None:
    def view() -> Response:
        limit = parse("1/minute")
        limiter.limiter.clear(limit, "me", "a")
        return Response("", 200 if limiter.limiter.test(limit, "me", "a") else 202)

    add(app, "/a", limiter.limit("1/minute")(view))


def late_user(app: Flask, limiter: Limiter) -> None:
    """The key of the decorator's limit is known to a hook that runs after Flask-Limiter's."""

    def know_user() -> None:
        g.user = request.args["user"]

    limiter.init_app(app)
    app.before_request(know_user)
    decorated("2/minute", key_func=lambda: g.user)(app, limiter)


def class_view(app: Flask, limiter: Limiter) -> None:
    class Things(MethodView):
        decorators = [limiter.limit("2/minute", per_method=True)]  # noqa: RUF012

        def get(self) -> str:
            return "ok"

        def post(self) -> str:
            return "ok"

    add(app, "/a", Things.as_view("things"))
