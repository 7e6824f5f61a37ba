"""Rate limits: what is asked of them, what they answer, and the port that all kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

CELLS = 64
"""Into how many cells a window falls; hits of one cell share an entry of the log."""


class Limit(NamedTuple):
    """`amount` hits in any `window_ms`. `name` tells it from the identity's other limits.

    Attributes:
        cost: how many hits this request takes; 0 only looks.
        never_open: without Redis it is counted by each process for itself, where others let pass.
        exact: no two hits share an entry: never a hit held for longer than the window, at 11 bytes
            a hit. Limits up to 64 are exact anyway.
        shadow: it is judged and told, and denies nothing.
        probe: it denies as if it took the cost, and takes nothing.
    """

    name: str
    amount: int
    window_ms: int
    cost: int = 1
    never_open: bool = False
    exact: bool = False
    shadow: bool = False
    probe: bool = False

    @property
    def mode(self) -> int:
        """As `rate_admit.v2` takes it."""
        return self.exact + 2 * self.shadow + 4 * self.probe

    @property
    def shares_entries(self) -> bool:
        return self.amount > CELLS and not self.exact


Asked = tuple[str, Sequence[Limit]]
"""An identity and its limits."""


class Standing(NamedTuple):
    """How one limit stands after the decision.

    `reset_ms`: until the oldest hit leaves. `retry_ms`: until the same request would be admitted;
    0 now, None never (it costs more than the limit). `at_us`: the limit's own clock, by which it
    was judged and under which its hits are stored.
    """

    limit: Limit
    remaining: int
    reset_ms: int
    retry_ms: int | None
    at_us: int = 0

    @property
    def exceeded(self) -> bool:
        """Whether this request is too much for it, whether or not it denies."""
        return self.retry_ms != 0

    @property
    def denied(self) -> bool:
        return self.exceeded and not self.limit.shadow


class DecidedBy(StrEnum):
    """Whose word it is: the server's, what it said a moment ago, this process's, or nobody's."""

    SERVER = "server"
    MEMO = "memo"
    PROCESS = "process"
    NOBODY = "nobody"


class Decision(NamedTuple):
    """Of one identity. `standings` are of its limits, as far as they are known.

    `untaken`: another identity denied the same request, so that this one's hits are not kept.
    """

    identity: str
    admitted: bool
    standings: tuple[Standing, ...]
    by: DecidedBy = DecidedBy.SERVER
    untaken: bool = False

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until the same request would be admitted by every limit that denied it."""
        waits = [
            each.retry_ms if each.retry_ms is not None else each.limit.window_ms
            for each in self.standings
            if not each.limit.shadow
        ]
        return max(1, -(-max(waits, default=0) // 1000))

    @property
    def owed(self) -> list[Standing]:
        """Where this decision took hits, which a refund would give back."""
        if not self.admitted or self.untaken:
            return []
        counted = [each for each in self.standings if not each.exceeded]
        return [each for each in counted if each.limit.cost and not each.limit.probe]

    @property
    def taken(self) -> list[Limit]:
        """The limits that this decision took hits of."""
        return [each.limit for each in self.owed]


class Rates(Protocol):
    """Decides requests; nothing here raises where Redis is lost, but `LimitsUnavailable`."""

    def admit(self, identity: str, limits: Sequence[Limit]) -> Decision:
        """Decide one request of `identity` by all of `limits` at once."""
        ...

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        """Decide one request that counts for several identities: if one denies, none has taken."""
        ...

    def refund(self, decision: Decision) -> None:
        """Give back what an admitted request took; at most once, and at best."""
        ...

    def reset(self, identity: str, names: Sequence[str]) -> int:
        """Forget what was used up of these limits; returns of how many something was."""
        ...
