"""Rate limits of our own routes: a table of budgets, the answer 429, and the headers.

`BUDGETS` says which budget an endpoint draws on; the limits of a budget are settings. They are
Flask-Limiter's defaults, so they are decided before validation: a refused body counts too.
Headers: `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10, and
`X-RateLimit-*` beside them for the limit that leaves least.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from flask import Flask, Response, g, request
from flask_limiter import Limit as LimitGroup
from flask_limiter import RateLimitExceeded
from flask_limiter._limits import RuntimeLimit
from limits import parse_many

from app.api import problems
from app.api.limiter import OneCallLimiter, memo
from app.bootstrap import Container
from app.config import Settings
from app.coordination import deadline
from app.coordination.rate_limit import Standing
from app.errors import FieldError

# Endpoints whose writes draw on another budget than `writes`.
BUDGETS: Mapping[str, str] = {
    "accounts.register": "login",
    "sessions.log_in": "login",
}
# Budgets that hold without Redis too: guessing passwords must not become free.
NEVER_OPEN = frozenset({"login"})
EXEMPT_BLUEPRINTS = frozenset({"health", "docs", "swagger"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def budget_of(endpoint: str, method: str) -> str:
    """The budget that a request draws on: `reads`, `writes` or `login`."""
    if method in _READING:
        return "reads"
    return BUDGETS.get(endpoint, "writes")


def identity() -> str:
    """Who is counted: the account of a good token, else the address."""
    actor = g.get("actor")
    return f"account:{actor.account_id}" if actor else f"address:{request.remote_addr}"


def install_limits(app: Flask, container: Container) -> None:
    """Decide every request, answer 429 with the policies violated, and add the headers."""
    budget_s = container.settings.request_redis_budget_ms / 1000
    app.before_request(lambda: deadline.start_budget(budget_s))
    app.teardown_request(lambda _: deadline.end_budget())
    groups = [BudgetLimits(container.settings)]
    limiter = OneCallLimiter(
        container.rates, key_func=identity, default_limits=groups, never_open=NEVER_OPEN
    )
    limiter.init_app(app)
    app.register_error_handler(RateLimitExceeded, lambda _: _too_many())

    def finish(response: Response) -> Response:
        standings = memo().standings
        if standings:
            counter.labels(request.endpoint, _outcome(list(standings.values()))).inc()
        return _with_headers(response, [each for each in standings.values() if each])

    counter = container.metrics.limits
    app.after_request(finish)


class BudgetLimits(LimitGroup):
    """A group of Flask-Limiter's that yields the limits of the endpoint's budget, parsed once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("", shared=True)
        texts = {
            "reads": settings.limit_reads,
            "writes": settings.limit_writes,
            "login": settings.limit_login,
        }
        self._limits = {budget: _parsed(budget, text) for budget, text in texts.items()}

    def __iter__(self) -> Iterator[RuntimeLimit]:
        if request.blueprint in EXEMPT_BLUEPRINTS:
            return iter(())
        return iter(self._limits[budget_of(request.endpoint or "", request.method)])


def _parsed(budget: str, text: str) -> list[RuntimeLimit]:
    return [RuntimeLimit(item, identity, scope=budget, shared=True) for item in parse_many(text)]


def _too_many() -> Response:
    violated = [each for each in memo().standings.values() if each and each.denied]
    names = [FieldError(_policy(each), f"at most {_spelt(each)}") for each in violated]
    retry_after_s = memo().retry_after_s
    detail = f"Try again in {retry_after_s} s; see errors for the limits reached."
    headers = {"Retry-After": str(retry_after_s)}
    return problems.problem(429, detail, field_errors=names, headers=headers)


def _outcome(standings: Sequence[Standing | None]) -> str:
    if any(each and each.denied for each in standings):
        return "denied"
    return "allowed" if all(standings) else "uncounted"


def _with_headers(response: Response, standings: Sequence[Standing]) -> Response:
    if not standings:
        return response
    headers = response.headers
    headers["RateLimit-Policy"] = ", ".join(
        f'"{_policy(each)}";q={each.limit.amount};w={each.limit.window_ms // 1000}'
        for each in standings
    )
    headers["RateLimit"] = ", ".join(
        f'"{_policy(each)}";r={max(0, each.remaining)};t={_seconds(each.reset_ms)}'
        for each in standings
    )
    tightest = min(standings, key=lambda each: (not each.denied, each.remaining))
    headers["X-RateLimit-Limit"] = str(tightest.limit.amount)
    headers["X-RateLimit-Remaining"] = str(max(0, tightest.remaining))
    headers["X-RateLimit-Reset"] = str(int(time.time()) + _seconds(tightest.reset_ms))
    return response


def _policy(standing: Standing) -> str:
    """`reads-60s`: the budget or route, and the window."""
    return f"{standing.limit.name.split('/')[0]}-{standing.limit.window_ms // 1000}s"


def _spelt(standing: Standing) -> str:
    return f"{standing.limit.amount} in any {standing.limit.window_ms // 1000} s"


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
