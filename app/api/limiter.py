"""Flask-Limiter as the front of `coordination.rate_limit`: one decision for a whole request.

Flask-Limiter evaluates limits one by one and asks its storage for each. Here, all of them are
decided together first, the route's decorated ones included, and the storage answers from the
request's memo (`rate_memo`). So its defaults, decorators, exemptions and callbacks go on
working, at the price of one round trip, and a request that any of them denies is counted by none.

Where a function has a say in one of the route's limits, they are a decision of their own, within
the route: it may need what a later hook or a decorator above the limit sets. The limiter's own
`key_func` must know its answer before the route, as it has to for Flask-Limiter's defaults.

A limit with `deduct_when` is reserved before the request and refunded after it where it must not be
deducted: two requests at once cannot both take the last place.

Of an endpoint that has our defaults and nothing else, Flask-Limiter is not asked at all
(`plain_limiter`), unless it is to deny.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from flask import Response, current_app, request
from flask_limiter import ExemptionScope
from flask_limiter import Limit as LimitGroup
from flask_limiter._limits import RuntimeLimit
from flask_limiter.constants import ConfigVars
from flask_limiter.util import get_qualified_name

from app.api.modal_limit import frozen
from app.api.plain_limiter import PlainLimiter
from app.api.rate_memo import Named, memo
from app.api.rate_storage import SCHEME, limit_of
from app.coordination.rates import Rates
from app.errors import InvalidInput

# All are served by the one sliding window, which admits no more than any of them would.
STRATEGIES = frozenset({"moving-window", "sliding-window-counter", "fixed-window"})


class OneCallLimiter(PlainLimiter):
    """Decides all limits of a request before Flask-Limiter looks at them one by one.

    `_Limiter__evaluate_limits` and `_Limiter__check_conditional_deductions` are private hooks of
    version 4.1; a test holds on to them.

    Args:
        strategy: any of Flask-Limiter's names; all mean the sliding window.

    Raises:
        InvalidInput: a strategy that is none, here or in `RATELIMIT_STRATEGY`.
    """

    def __init__(
        self,
        rates: Rates,
        *,
        strategy: str = "moving-window",
        **options: Any,
    ) -> None:
        _check_strategy(strategy)
        options["storage_uri"] = f"{SCHEME}://"
        options["storage_options"] = {"rates": rates}
        super().__init__(rates, strategy="moving-window", **options)

    def init_app(self, app: Any) -> None:
        _check_strategy(app.config.get(ConfigVars.STRATEGY) or "moving-window")
        super().init_app(app)

    def _Limiter__evaluate_limits(self, endpoint: str, limits: list[RuntimeLimit]) -> None:  # noqa: N802  the library's name
        ours = memo()
        now = self._named(endpoint, limits)
        known = {named.key for _, named in now}
        ahead = self._ahead(endpoint) if ours.before_the_route else []
        ahead = [each for each in ahead if each[1].key not in known]
        open_ = [each for each in now + ahead if each[1].key not in ours.ahead]
        ours.ahead = (ours.ahead | {named.key for _, named in ahead}) - known
        asked = [named for _, named in open_]
        probes = []
        if asked or ours.before_the_route:  # what was decided ahead was probed ahead too
            probes = self._probes(endpoint, [each for each, _ in open_])
        passes = ours.decide(self._rates, asked + probes)
        ours.expect(asked)
        # Who is denied is told so at once, by whichever limit, before the route validates anything.
        judged = now if passes else now + ahead
        super()._Limiter__evaluate_limits(endpoint, [each for each, _ in judged])  # type: ignore[misc]  # private

    def _Limiter__check_conditional_deductions(self, response: Response) -> None:  # noqa: N802  the library's name
        for limit, args in self.context.conditional_deductions.items():
            if limit.deduct_when:
                key, cost = limit.limit.key_for(*args), limit.deduction_amount
                if limit.deduct_when(response):
                    memo().keep(key, cost)
                else:
                    memo().refund(self._rates, key, cost)

    def _ahead(self, endpoint: str) -> list[tuple[RuntimeLimit, Named]]:
        """The route's limits, where all of them are the same before it as within it.

        Else none: those decided within the route are not to deny what those ahead have counted.
        """
        with contextlib.suppress(Exception):  # raised again where Flask-Limiter asks
            limits = self._of_the_route(endpoint)
            if all(map(self._is_plain, limits)):
                return self._named(endpoint, limits)
        return []

    def _of_the_route(self, endpoint: str) -> list[RuntimeLimit]:
        """What its decorators will ask for; nothing where a function is to tell which they are."""
        view = current_app.view_functions.get(endpoint)
        name = get_qualified_name(view) if view else ""
        if name not in self._marked_for_limiting or not self.enabled or self._request_filters:
            return []
        if any(map(_has_late_text, self._groups(name))):
            return []
        defaults, decorated = self.limit_manager.resolve_limits(
            current_app, endpoint, request.blueprint, name, False, True
        )
        if defaults and any(map(_has_late_text, self.limit_manager._default_limits)):
            return []
        return [*defaults, *decorated]

    def _groups(self, name: str) -> Iterator[LimitGroup]:
        """Whose texts tell, one with the other, which limits the view `name` has."""
        manager = self.limit_manager
        yield from manager._decorated_limits.get(name, ())
        for each in (request.blueprint or "").split("."):
            yield from manager._blueprint_limits.get(each, ())
        yield from self._meta_limits

    def _is_plain(self, each: RuntimeLimit) -> bool:
        """Whether no function has a say in it but the limiter's own key."""
        metas = chain(*self._meta_limits, each.meta_limits or ())
        return all(
            limit.key_func is self._key_func and not _has_functions(limit)
            for limit in (each, *metas)
        )

    def _probes(self, endpoint: str, limits: Iterable[RuntimeLimit]) -> list[Named]:
        """The limits on being limited: they may deny, and take nothing of a request that passes."""
        scope = self.limit_manager.exemption_scope(current_app, endpoint, request.blueprint)
        if ExemptionScope.META & scope:
            return []
        own = (each.meta_limits or () for each in limits)
        found = [each for each in chain(*self._meta_limits, *own) if not each.is_exempt]
        return [self._probe(endpoint, each) for each in found]

    def _probe(self, endpoint: str, each: RuntimeLimit) -> Named:
        key = each.limit.key_for(each.key_func(), each.scope_for(endpoint, None))
        limit = limit_of(key, each.limit.amount, each.limit.get_expiry(), each.deduction_amount)
        return Named(key, limit._replace(probe=True))

    def _named(
        self, endpoint: str, limits: Iterable[RuntimeLimit]
    ) -> list[tuple[RuntimeLimit, Named]]:
        """Those that apply: with key and cost called once, and asked for as decided."""
        found = []
        for each in limits:
            if each.is_exempt or each.method_exempt:
                continue
            decided = frozen(each, each.key_func(), each.deduction_amount)
            named = self._name(endpoint, decided)
            if named:
                found.append((decided, named))
        return found

    def _name(self, endpoint: str, each: RuntimeLimit) -> Named | None:
        who, scope = each.key_func(), each.scope_for(endpoint, request.method)
        if not who or not scope:
            return None  # Flask-Limiter logs it and passes it by
        key = each.limit.key_for(*([self._key_prefix] if self._key_prefix else []), who, scope)
        limit = limit_of(key, each.limit.amount, each.limit.get_expiry(), each.deduction_amount)
        limit = limit._replace(
            never_open=getattr(each, "never_open", False),
            exact=getattr(each, "exact", False),
            shadow=getattr(each, "shadow", False),
        )
        return Named(key, limit, reserved=each.deduct_when is not None)


def _has_functions(each: RuntimeLimit) -> bool:
    """Whether a function tells how it applies, or what is said of it."""
    applies = (each.cost, each.scope, each.exempt_when, each.deduct_when)
    return any(map(callable, (*applies, each.on_breach, each.error_message)))


def _has_late_text(group: LimitGroup) -> bool:
    """Whether a function tells its text, or that of a limit on being limited by it."""
    texts = [group, *(group.meta_limits or ())]
    return any(callable(getattr(each, "limit_provider", each)) for each in texts)


def _check_strategy(strategy: str) -> None:
    if strategy not in STRATEGIES:
        known = ", ".join(sorted(STRATEGIES))
        raise InvalidInput(f"The strategy of rate limits is one of {known}, not {strategy!r}.")
