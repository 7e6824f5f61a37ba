"""What Flask-Limiter's own applications answer to which requests."""

from __future__ import annotations

from typing import Any, NamedTuple

from flask import Flask, Response, request
from flask.testing import FlaskClient
from flask_limiter import Limiter

from tests.api.flask_limiter_apps import (
    SetUp,
    blueprints,
    by_hand,
    class_view,
    conditional_block_in_a_loop,
    decorated,
    exempt,
    filtered,
    forgiving,
    helper,
    late_user,
    looking_after_clearing,
    nested,
    shared,
    status_asked,
    twice,
    two_plain,
    with_block,
    with_block_in_a_loop,
)


class Case(NamedTuple):
    """Requests such as `GET /a?n=1`, and the statuses that they get, one by one."""

    name: str
    set_up: SetUp
    requests: list[str]
    statuses: list[int]
    options: dict[str, Any] = {}  # noqa: RUF012  never changed
    config: dict[str, Any] = {}  # noqa: RUF012  never changed


def client_of(limiter: Limiter, case: Case) -> FlaskClient:
    app = Flask("plain")
    app.config.update(case.config)
    case.set_up(app, limiter)
    limiter.init_app(app)
    return app.test_client()


def statuses(client: FlaskClient, requests: list[str]) -> list[int]:
    sent = (request.split() for request in requests)
    return [client.open(path, method=method).status_code for method, path in sent]


def _n() -> int:
    return int(request.args["n"])


def _who() -> str:
    return request.args["who"]


def _free() -> bool:
    return "free" in request.args


def _is_good(answer: Response) -> bool:
    return answer.status_code == 200


def _is_bad(answer: Response) -> bool:
    return answer.status_code != 200


FIVE_OF_SIX = [200] * 5 + [429]
A, B, POST = "GET /a", "GET /b", "POST /a"
APPLICATION = {"application_limits": ["3/minute"]}
FIVE = {"default_limits": ["5/minute"]}
TWO = {"default_limits": ["2/minute"]}

CASES = [
    Case("a default is each route's own", two_plain, [A, A, B, A, B], [200] * 3 + [429, 200], TWO),
    Case(
        "the default of the configuration",
        two_plain,
        [A] * 3,
        [200, 200, 429],
        {},
        {"RATELIMIT_DEFAULT": "2/minute"},
    ),
    Case(
        "a default per method",
        two_plain,
        [A, A, POST, A],
        [200, 200, 200, 429],
        {**TWO, "default_limits_per_method": True},
    ),
    Case(
        "a default's cost", two_plain, [A] * 3, [200, 200, 429], {**FIVE, "default_limits_cost": 2}
    ),
    Case(
        "a default's exemption",
        two_plain,
        [A, A, A + "?free=1", A],
        [200, 200, 200, 429],
        {**TWO, "default_limits_exempt_when": _free},
    ),
    Case("a limit in place of the default", decorated("3/minute"), [A] * 4, [200] * 3 + [429], TWO),
    Case(
        "a limit beside the default",
        decorated("3/minute", override_defaults=False),
        [A] * 3,
        [200, 200, 429],
        TWO,
    ),
    Case("two limits in one text", decorated("2/minute;10/hour"), [A] * 3, [200, 200, 429]),
    Case(
        "a text that is told at the request",
        decorated(lambda: f"{_n()}/minute"),  # type: ignore[arg-type]
        [A + "?n=1", A + "?n=1", A + "?n=2"],
        [200, 429, 200],
    ),
    Case("a shared limit", shared, [A, B, A, B, A], [200] * 3 + [429] * 2),
    Case(
        "an exempt route",
        exempt,
        [A] * 4 + [B] * 3,
        [200] * 6 + [429],
        {**TWO, "application_limits": ["2/minute"]},
    ),
    Case("limits of the application", two_plain, [A, B, A, B], [200] * 3 + [429], APPLICATION),
    Case(
        "a limit per method",
        decorated("1/minute", per_method=True),
        [A, POST, A, POST],
        [200, 200, 429, 429],
    ),
    Case(
        "a limit of some methods",
        decorated("1/minute", methods=["POST"]),
        [POST, POST, A, A, A],
        [200, 429, 200, 200, 429],
        TWO,
    ),
    Case(
        "an exemption by the request",
        decorated("1/minute", exempt_when=_free),
        [A, A + "?free=1", A, A + "?free=1"],
        [200, 200, 429, 200],
    ),
    Case(
        "a key of the limit's own",
        decorated("1/minute", key_func=_who),
        [A + "?who=x", A + "?who=y", A + "?who=x"],
        [200, 200, 429],
    ),
    Case(
        "a key with slashes",
        decorated("1/minute", key_func=_who),
        [A + "?who=x/y", A + "?who=x", A + "?who=x/y"],
        [200, 200, 429],
    ),
    Case("a fixed cost", decorated("5/minute", cost=2), [A] * 3, [200, 200, 429]),
    Case(
        "a cost told at the request",
        decorated("5/minute", cost=_n),
        [A + "?n=3", A + "?n=3", A + "?n=2", A + "?n=1"],
        [200, 429, 200, 429],
    ),
    Case(
        "a cost beyond the limit",
        decorated("5/minute", cost=_n),
        [A + "?n=6", A + "?n=5"],
        [429, 200],
    ),
    Case(
        "only failures are deducted",
        status_asked,
        [A + "?status=200"] * 3 + [A + "?status=404"] * 3 + [A + "?status=200"],
        [200] * 3 + [404, 404, 429, 429],
    ),
    Case("nested decorators", nested, [A] * 4, [200] * 3 + [429]),
    Case("the same decorator twice", twice("5/minute"), [A] * 6, FIVE_OF_SIX),
    Case(
        "the same limit twice, with a message",
        twice("5/minute", error_message="slowly"),
        [A] * 4,
        [200, 200, 429, 429],
    ),
    Case(
        "the same limit twice, at two costs",
        twice("5/minute", cost=2),
        [A] * 3,
        [200, 429, 429],
    ),
    Case(
        "the same limit twice, once deducted after the answer",
        twice("5/minute", deduct_when=_is_good),
        [A] * 4,
        [200, 200, 429, 429],
    ),
    Case(
        "the same limit twice, once not deducted",
        twice("5/minute", deduct_when=_is_bad),
        [A] * 6,
        [200] * 4 + [429] * 2,
    ),
    Case(
        "the same limit twice, for one method",
        twice("5/minute", methods=["POST"], override_defaults=False),
        [A, A, A, POST, POST],
        [200] * 4 + [429],
    ),
    Case(
        "a text with the same limit twice",
        decorated("5/minute;5 per minute;6/minute"),
        [A] * 4,
        [200, 200, 429, 429],
    ),
    Case(
        "a limit beside a default of the same text",
        decorated("5/minute", override_defaults=False),
        [A] * 4,
        [200, 200, 429, 429],
        FIVE,
    ),
    Case("a default twice", two_plain, [A] * 6, FIVE_OF_SIX, {"default_limits": ["5/minute"] * 2}),
    Case("a block within the view", with_block, [A] * 5, [200, 200, 202, 202, 429]),
    Case("a block that is entered twice", with_block_in_a_loop, [A] * 4, [200, 200, 429, 429]),
    Case(
        "a block that is entered twice and not deducted",
        conditional_block_in_a_loop,
        [A + "?status=404"] * 6 + [A + "?status=200"] * 3,
        [404] * 6 + [200, 200, 429],
    ),
    Case("a helper that the view calls", helper, [A] * 3, [200, 200, 429]),
    Case(
        "limits of blueprints",
        blueprints,
        ["GET /limited"] * 3 + ["GET /free"] * 3 + ["GET /own"] * 2 + ["GET /decorated"] * 4,
        [200, 200, 429] + [200] * 3 + [200, 429] + [200] * 3 + [429],
        TWO,
    ),
    Case("a filter of requests", filtered, [A, A, A + "?free=1", A], [200, 200, 200, 429]),
    Case("a view of a class", class_view, [A, A, A, POST], [200, 200, 429, 200]),
    Case(
        "a request identifier",
        two_plain,
        [A, B, A],
        [200, 200, 429],
        {**TWO, "request_identifier": lambda: "all"},
    ),
    Case(
        "all limits though one was breached",
        decorated("1/minute;2/hour"),
        [A] * 3,
        [200, 429, 429],
        {"fail_on_first_breach": False},
    ),
    Case("hits by hand", by_hand, [A] * 3, [200, 202, 202]),
    Case(
        "a good answer clears",
        forgiving,
        [A, A, A + "?good=1", A, A, A, A],
        [202, 202, 200, 202, 202, 202, 429],
    ),
    Case("a look after clearing", looking_after_clearing, [A] * 3, [200] * 3),
    Case(
        "a key that a later hook knows",
        late_user,
        [A + "?user=x"] * 3 + [A + "?user=y"],
        [200, 200, 429, 200],
    ),
    Case(
        "a key prefix",
        decorated("2/minute", key_func=_who),
        [A + "?who=x"] * 3 + [A + "?who=y"],
        [200, 200, 429, 200],
        {"key_prefix": "mine"},
    ),
    Case("what has no address is not limited", two_plain, ["GET /none"] * 3, [404] * 3, TWO),
]
