"""A limit of Flask-Limiter's with our modes, as our own routes declare theirs."""

from __future__ import annotations

import dataclasses
from functools import cached_property

from flask_limiter._limits import RuntimeLimit

from app.api.rate_memo import Named
from app.api.rate_storage import limit_of


@dataclasses.dataclass(eq=True, unsafe_hash=True)
class ModalLimit(RuntimeLimit):
    """As `app.coordination.rates.Limit` has `exact`, `shadow` and `never_open`."""

    exact: bool = False
    shadow: bool = False
    never_open: bool = False

    @cached_property
    def is_plain(self) -> bool:
        """Whether it applies to every request, whatever functions tell whom it counts and how much.

        What it says and does once it denies is Flask-Limiter's business.
        """
        applies = (self.exempt_when, self.methods, self.deduct_when, self.meta_limits)
        scoped = self.shared and isinstance(self.scope, str) and not self.per_method
        return scoped and not any(applies)

    def named(self, who: str) -> Named:
        """A plain one as it is asked for, under the key that Flask-Limiter has for it."""
        named, cost = self._named, self.deduction_amount
        limit = named.limit if cost == named.limit.cost else named.limit._replace(cost=cost)
        return Named(f"{self._beginning}{who}{named.key}", limit)

    @cached_property
    def _named(self) -> Named:
        """At the cost of 1. Its key is what follows the identity."""
        key = self.limit.key_for("", str(self.scope))
        limit = limit_of(key, self.limit.amount, self.limit.get_expiry(), 1)
        limit = limit._replace(never_open=self.never_open, exact=self.exact, shadow=self.shadow)
        return Named(key.removeprefix(self._beginning), limit)

    @cached_property
    def _beginning(self) -> str:
        return f"{self.limit.namespace}/"


def frozen(each: RuntimeLimit, who: str, cost: int) -> RuntimeLimit:
    """The limit as it was decided: it applies, and no function is asked a second time."""
    return dataclasses.replace(
        each, key_func=lambda: who, cost=cost, exempt_when=None, methods=None
    )
