"""Requests of which Flask-Limiter would find our own limits and nothing else, decided without it.

Filtering and evaluating limits costs Flask-Limiter more than their decision takes. Where an
endpoint has no limit but the defaults, and those are data (`ModalLimit`), their keys are known
without it. Whether that is so is looked up for each request: extensions may declare limits,
exemptions and filters at any time, and limited blocks and helpers do so within a view. What is left
to Flask-Limiter is to deny, and to tell a view, on being asked, what was decided.
"""

from __future__ import annotations

from typing import Any

from flask import current_app, request
from flask_limiter import Limiter, RequestLimit
from flask_limiter._limits import RuntimeLimit
from flask_limiter.util import get_qualified_name

from app.api.modal_limit import ModalLimit, frozen
from app.api.rate_memo import Memo, memo
from app.coordination.rates import Rates


class PlainLimiter(Limiter):
    """Decides plain requests by `rates`, before Flask-Limiter looks for their limits."""

    def __init__(self, rates: Rates, **options: Any) -> None:
        super().__init__(**options)
        self._rates = rates

    def _check_request_limit(
        self, callable_name: str | None = None, in_middleware: bool = True
    ) -> None:
        ours = memo()
        ours.before_the_route = in_middleware
        if not in_middleware:
            self._catch_up(ours)
        elif self._decides_plainly(ours):
            return
        super()._check_request_limit(callable_name, in_middleware)

    @property
    def current_limit(self) -> RequestLimit | None:
        plain = memo().plain.get(self)
        if plain:
            return self._told(*min(plain, key=lambda each: each[0].limit))
        return super().current_limit

    @property
    def current_limits(self) -> list[RequestLimit]:
        self._catch_up(memo())
        return super().current_limits

    def _decides_plainly(self, ours: Memo) -> bool:
        """Decide a request of which Flask-Limiter would find nothing but plain limits.

        Who is denied is told so by Flask-Limiter, with all that it says and calls.
        """
        limits = self._plain_limits()
        callers = {each.key_func: each.key_func() for each in limits or ()}
        if limits is None or not all(callers.values()):
            return False
        of = [(each, callers[each.key_func]) for each in limits]
        asked = [each.named(who) for each, who in of]
        if ours.decide(self._rates, asked):
            ours.plain[self] = of
            return True
        ours.expect(asked)
        judged = [
            frozen(limit, who, named.limit.cost)
            for (limit, who), named in zip(of, asked, strict=True)
        ]
        super()._Limiter__evaluate_limits(self.identify_request(), judged)  # type: ignore[misc]  # private
        return True

    def _plain_limits(self) -> list[ModalLimit] | None:
        """The defaults, if they are all that there is for the request, and plain; else None."""
        endpoint = self.identify_request()
        if not endpoint or self._has_more_than_defaults() or self._knows(endpoint):
            return None
        limits = self.limit_manager.default_limits
        plain = [each for each in limits if isinstance(each, ModalLimit) and each.is_plain]
        return plain if len(plain) == len(limits) else None

    def _has_more_than_defaults(self) -> bool:
        """Whether there is anything that may have a say in every request, or in its failure."""
        return bool(
            self._request_filters
            or self._meta_limits
            or self.limit_manager._application_limits
            or self._key_prefix
            or self._swallow_errors
            or self._in_memory_fallback_enabled
        )

    def _knows(self, endpoint: str) -> bool:
        """Whether anything was declared of an endpoint, its view or its blueprints."""
        manager, view = self.limit_manager, current_app.view_functions.get(endpoint)
        name = get_qualified_name(view) if view else ""
        if (
            name in self._marked_for_limiting
            or name in self._route_exemptions
            or manager.has_hints(endpoint)
            or endpoint.rpartition(".")[2] == "static"
        ):
            return True
        if not manager._blueprint_limits and not self._blueprint_exemptions:
            return False
        blueprint = request.blueprint or ""
        names = {*blueprint.split("."), getattr(current_app.blueprints.get(blueprint), "name", "")}
        return not names.isdisjoint([*manager._blueprint_limits, *self._blueprint_exemptions])

    def _catch_up(self, ours: Memo) -> None:
        """Let Flask-Limiter know of what was decided without it, as if it had seen it itself."""
        plain = ours.plain.pop(self, ())
        if plain:
            self.context.seen_limits.update([each for each, _ in plain])
            in_order = sorted(plain, key=lambda each: each[0].limit)
            self.context.view_rate_limits = [self._told(*each) for each in in_order]
            self.context.view_rate_limit = self.context.view_rate_limits[0]

    def _told(self, each: RuntimeLimit, who: str) -> RequestLimit:
        return RequestLimit(self, each.limit, [who, str(each.scope)], False, each.shared)
