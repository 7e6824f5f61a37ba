"""Rate limits of our own routes: tables of budgets, the answer 429, and the headers.

A new endpoint needs nothing here: it draws on `reads` or `writes` by its method. To let it draw on
another budget, give it a row in `BUDGETS`. For a budget of its own:
1. a member of `Budget` in `app.services.limit_rules`;
2. its limits: the setting `limit_<name>` in `app.config`, and its row in docs/operating.md;
3. the endpoint's row in `BUDGETS`, and rows in `COUNTED_BY`, `COSTS` and `NEVER_OPEN` where it does
   not count 1 for the caller, or must hold without Redis.

The limits are Flask-Limiter's defaults, so they are decided before validation: a refused body
counts too. `batch` in tests/api/test_limits.py shows all of it.
Headers: `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10, and
`X-RateLimit-*` beside them for the limit that leaves least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from flask import Flask, Response, g, request
from flask_limiter import Limit as LimitGroup
from flask_limiter import RateLimitExceeded
from flask_limiter._limits import RuntimeLimit
from limits import parse

from app.api import problems
from app.api.client_address import client_address, networks
from app.api.limit_identities import by_address, by_caller, by_log_in, items_of_body
from app.api.limit_metrics import count_decisions
from app.api.limiter import OneCallLimiter
from app.api.modal_limit import ModalLimit
from app.api.rate_memo import memo
from app.bootstrap import Container
from app.coordination import deadline
from app.coordination.rates import Limit, Standing
from app.errors import FieldError
from app.services.limit_rules import Budget, limits_of_settings

# Endpoints that draw on another budget than `reads` or `writes`.
BUDGETS: Mapping[str, Budget] = {
    "accounts.register": Budget.LOGIN,
    "accounts.change_password": Budget.LOGIN,
    "accounts.delete_account": Budget.LOGIN,
    "accounts.request_password_reset": Budget.LOGIN,
    "accounts.reset_password": Budget.LOGIN,
    "accounts.request_verification": Budget.LOGIN,
    "accounts.verify_address": Budget.LOGIN,
    "sessions.log_in": Budget.LOGIN,
}
# Budgets that count for somebody else than the caller.
COUNTED_BY: Mapping[Budget, Callable[[], str]] = {
    Budget.LOGIN: by_address,
    Budget.LOGIN_ACCOUNT: by_log_in,
}
# Budgets of which a request may cost more than 1.
COSTS: Mapping[Budget, Callable[[], int]] = {Budget.BATCH: items_of_body}
# Budgets that hold without Redis too: guessing passwords must not become free.
NEVER_OPEN = frozenset({Budget.LOGIN, Budget.LOGIN_ACCOUNT})
# Budgets that a request draws on beside its own.
BESIDE: Mapping[Budget, Budget] = {Budget.LOGIN: Budget.LOGIN_ACCOUNT}
EXEMPT_BLUEPRINTS = frozenset({"health", "docs", "swagger"})


def budget_of(endpoint: str, method: str) -> Budget:
    """The budget that a request draws on."""
    if method == "OPTIONS":  # answered by the framework, whatever the endpoint
        return Budget.READS
    usual = Budget.READS if method in ("GET", "HEAD") else Budget.WRITES
    return BUDGETS.get(endpoint, usual)


def install_limits(app: Flask, container: Container) -> None:
    """Decide every request, answer 429 with the policies violated, and add the headers."""
    budget_s = container.settings.request_redis_budget_ms / 1000
    trusted = networks(container.settings.trusted_proxies)

    def begin() -> None:
        deadline.start_budget(budget_s)
        container.fleet.join()
        g.client_address = client_address(trusted)

    def finish(response: Response) -> Response:
        count_decisions(container.metrics, request.endpoint or "", memo())
        return _with_headers(response)

    app.before_request(begin)
    # Before the limiter's own hook, to run after it: it refunds what is not to be deducted.
    app.after_request(finish)
    app.teardown_request(lambda _: deadline.end_budget())
    limiter = OneCallLimiter(
        container.rates,
        key_func=by_caller,
        default_limits=[BudgetLimits(container)],
    )
    limiter.init_app(app)
    app.register_error_handler(RateLimitExceeded, _too_many)


class BudgetLimits(LimitGroup):
    """A group of Flask-Limiter's that yields the limits of the request's budget and account."""

    def __init__(self, container: Container) -> None:
        super().__init__("", shared=True)
        self._texts = limits_of_settings(container.settings)
        self._rules = container.limit_rules

    def __iter__(self) -> Iterator[RuntimeLimit]:
        if request.blueprint in EXEMPT_BLUEPRINTS:
            return
        budget = budget_of(request.endpoint or "", request.method)
        text = self._rules.limits_of(g.get("actor"), budget) or self._texts[budget]
        yield from parsed(budget, text)
        if budget in BESIDE:
            yield from parsed(BESIDE[budget], self._texts[BESIDE[budget]])


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
                COUNTED_BY.get(budget, by_caller),
                scope=budget.value,
                shared=True,
                cost=COSTS.get(budget, 1),
                exact="exact" in modes,
                shadow="shadow" in modes,
                never_open=budget in NEVER_OPEN,
            )
        )
    return tuple(limits)


def _too_many(error: RateLimitExceeded) -> Response:
    if isinstance(error.response, Response):  # a limit's own `on_breach` has answered
        return error.response
    violated = [
        FieldError(policy, f"at most {each.limit.amount} in any {_window_s(each.limit)} s")
        for policy, each in memo().denying()
    ]
    retry_after_s = memo().retry_after_s
    detail = f"Try again in {retry_after_s} s; see errors for the limits reached."
    headers = {"Retry-After": str(retry_after_s)}
    return problems.problem(429, detail, field_errors=violated, headers=headers)


def _with_headers(response: Response) -> Response:
    """Every limit of the request that was counted, but those that only watch."""
    told = [(policy, each) for policy, each in memo().counted() if each and not each.limit.shadow]
    if not told:
        return response
    headers = response.headers
    headers["RateLimit-Policy"] = ", ".join(
        f'"{policy}";q={each.limit.amount};w={_window_s(each.limit)}' for policy, each in told
    )
    headers["RateLimit"] = ", ".join(
        f'"{policy}";r={max(0, each.remaining)};t={_seconds(each.reset_ms)}'
        for policy, each in told
    )
    _add_tightest(response, [each for _, each in told])
    return response


def _add_tightest(response: Response, standings: Sequence[Standing]) -> None:
    """The headers that tell of one limit only, which many clients know."""
    tightest = min(standings, key=lambda each: (not each.denied, each.remaining))
    headers = response.headers
    headers["X-RateLimit-Limit"] = str(tightest.limit.amount)
    headers["X-RateLimit-Remaining"] = str(max(0, tightest.remaining))
    headers["X-RateLimit-Reset"] = str(int(time.time()) + _seconds(tightest.reset_ms))


def _window_s(limit: Limit) -> int:
    return limit.window_ms // 1000


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
