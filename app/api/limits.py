"""Rate limits of our own routes: a table of budgets, the answer 429, and the headers.

`BUDGETS` says which budget an endpoint draws on; the limits of a budget are settings, or a rule of
the account's role or plan. They are Flask-Limiter's defaults, so they are decided before
validation: a refused body counts too.
Headers: `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10, and
`X-RateLimit-*` beside them for the limit that leaves least.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from flask import Flask, Response, g, request
from flask_limiter import Limit as LimitGroup
from flask_limiter import RateLimitExceeded
from flask_limiter._limits import RuntimeLimit
from limits import parse

from app.api import problems
from app.api.bodies import peeked
from app.api.client_address import client_address, networks
from app.api.limit_metrics import count_decisions, policy_of
from app.api.limiter import ModalLimit, OneCallLimiter
from app.api.rate_storage import memo
from app.api.schemas.accounts import EMAIL_MAX
from app.bootstrap import Container
from app.coordination import deadline
from app.coordination.rates import Standing
from app.errors import FieldError
from app.services import accounts
from app.services.limit_rules import Budget

# Endpoints whose writes draw on another budget than `writes`.
BUDGETS: Mapping[str, Budget] = {
    "accounts.register": Budget.LOGIN,
    "sessions.log_in": Budget.LOGIN,
}
# Budgets that hold without Redis too: guessing passwords must not become free.
NEVER_OPEN = frozenset({Budget.LOGIN, Budget.LOGIN_ACCOUNT})
EXEMPT_BLUEPRINTS = frozenset({"health", "docs", "swagger"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def budget_of(endpoint: str, method: str) -> Budget:
    """The budget that a request draws on."""
    if method in _READING:
        return Budget.READS
    return BUDGETS.get(endpoint, Budget.WRITES)


def identity() -> str:
    """Who is counted: the account of a good token, else the address."""
    actor = g.get("actor")
    return f"account:{actor.account_id}" if actor else address_identity()


def address_identity() -> str:
    return f"address:{g.client_address}"


def log_in_identity() -> str:
    """The account that somebody tries to log in to, from where they are.

    With the address in it, so that nobody can lock an account's owner out by trying to log in from
    somewhere else; hashed, because it is what the client sent, and somebody's e-mail address.
    """
    given = peeked().get("email")
    # What the schema will refuse names no account: reading it would be work for whoever sends it.
    is_text = isinstance(given, str) and len(given) <= EMAIL_MAX
    email = _spelt_one_way(str(given)) if is_text else ""
    digest = hashlib.blake2b(email.encode(errors="replace"), digest_size=12)
    return f"login:{digest.hexdigest()}:{g.client_address}"


def _spelt_one_way(email: str) -> str:
    """As the look-up of the account reads it: `ann@ｅxample.com` is no way round a limit."""
    try:
        return accounts.normal_email(email)
    except ValueError:
        return email


def items_of_body() -> int:
    """What a batch costs: its items, at least 1."""
    items = peeked().get("items")
    return max(1, len(items)) if isinstance(items, list) else 1


_IDENTITY: Mapping[Budget, Callable[[], str]] = {
    Budget.LOGIN: address_identity,
    Budget.LOGIN_ACCOUNT: log_in_identity,
}
_COST: Mapping[Budget, Callable[[], int]] = {Budget.BATCH: items_of_body}


def install_limits(app: Flask, container: Container) -> None:
    """Decide every request, answer 429 with the policies violated, and add the headers."""
    budget_s = container.settings.request_redis_budget_ms / 1000
    trusted = networks(container.settings.trusted_proxies)

    def begin() -> None:
        deadline.start_budget(budget_s)
        container.fleet.join()
        g.client_address = client_address(trusted)

    app.before_request(begin)
    app.teardown_request(lambda _: deadline.end_budget())
    limiter = OneCallLimiter(
        container.rates,
        key_func=identity,
        default_limits=[BudgetLimits(container)],
        never_open=NEVER_OPEN,
    )
    limiter.init_app(app)
    app.register_error_handler(RateLimitExceeded, lambda _: _too_many())

    def finish(response: Response) -> Response:
        count_decisions(container.metrics, request.endpoint or "", memo())
        standings = [each for each in memo().standings.values() if each]
        return _with_headers(response, [each for each in standings if not each.limit.shadow])

    app.after_request(finish)


class BudgetLimits(LimitGroup):
    """A group of Flask-Limiter's that yields the limits of the request's budget and account."""

    def __init__(self, container: Container) -> None:
        super().__init__("", shared=True)
        settings, self._rules = container.settings, container.limit_rules
        self._texts = {
            Budget.READS: settings.limit_reads,
            Budget.WRITES: settings.limit_writes,
            Budget.BATCH: settings.limit_batch,
            Budget.LOGIN: settings.limit_login,
            Budget.LOGIN_ACCOUNT: settings.limit_login_account,
        }

    def __iter__(self) -> Iterator[RuntimeLimit]:
        if request.blueprint in EXEMPT_BLUEPRINTS:
            return
        budget = budget_of(request.endpoint or "", request.method)
        text = self._rules.limits_of(g.get("actor"), budget) or self._texts[budget]
        yield from parsed(budget, text)
        if budget is Budget.LOGIN:
            yield from parsed(Budget.LOGIN_ACCOUNT, self._texts[Budget.LOGIN_ACCOUNT])


@lru_cache(maxsize=1_024)
def parsed(budget: Budget, text: str) -> tuple[RuntimeLimit, ...]:
    """The limits of a text such as `600/minute;9/second shadow`."""
    limits = []
    for part in text.split(";"):
        words = part.split()
        modes = {word for word in words if word in ("exact", "shadow")}
        limits.append(
            ModalLimit(
                parse(" ".join(word for word in words if word not in modes)),
                _IDENTITY.get(budget, identity),
                scope=budget.value,
                shared=True,
                cost=_COST.get(budget, 1),
                exact="exact" in modes,
                shadow="shadow" in modes,
            )
        )
    return tuple(limits)


def _too_many() -> Response:
    violated = [each for each in memo().judged() if each.denied]
    names = [FieldError(policy_of(each.limit), f"at most {_spelt(each)}") for each in violated]
    retry_after_s = memo().retry_after_s
    detail = f"Try again in {retry_after_s} s; see errors for the limits reached."
    headers = {"Retry-After": str(retry_after_s)}
    return problems.problem(429, detail, field_errors=names, headers=headers)


def _with_headers(response: Response, standings: Sequence[Standing]) -> Response:
    if not standings:
        return response
    headers = response.headers
    headers["RateLimit-Policy"] = ", ".join(
        f'"{policy_of(each.limit)}";q={each.limit.amount};w={each.limit.window_ms // 1000}'
        for each in standings
    )
    headers["RateLimit"] = ", ".join(
        f'"{policy_of(each.limit)}";r={max(0, each.remaining)};t={_seconds(each.reset_ms)}'
        for each in standings
    )
    tightest = min(standings, key=lambda each: (not each.denied, each.remaining))
    headers["X-RateLimit-Limit"] = str(tightest.limit.amount)
    headers["X-RateLimit-Remaining"] = str(max(0, tightest.remaining))
    headers["X-RateLimit-Reset"] = str(int(time.time()) + _seconds(tightest.reset_ms))
    return response


def _spelt(standing: Standing) -> str:
    return f"{standing.limit.amount} in any {standing.limit.window_ms // 1000} s"


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
