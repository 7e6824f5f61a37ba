"""The storage that Flask-Limiter asks, and the memo of the request that it answers from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from flask import has_request_context, request
from limits.storage import MovingWindowSupport, Storage

from app.coordination.rates import DecidedBy, Decision, Limit, Rates, Standing
from app.errors import CoordinationError, InvalidInput

SCHEME = "taskflow"
NAMESPACE = "LIMITER"  # of limits that are parsed from a text
MOST_HITS = 2**32 - 1


class Named(NamedTuple):
    """A limit of this request under the key by which Flask-Limiter asks for it.

    `reserved`: it is deducted after the answer only, so that Flask-Limiter looks at it as if it had
    not been taken yet.
    """

    key: str
    limit: Limit
    reserved: bool = False


class Memo:
    """What was decided for this request, by key; None of a limit that nobody counted.

    Attributes:
        ahead: keys decided before the decorator that they belong to has asked.
        before_the_route: whether Flask-Limiter asks before the request's handler, or within it.
        retry_after_s: after a denial, seconds until the same request would be admitted.
    """

    def __init__(self) -> None:
        self.standings: dict[str, Standing | None] = {}
        self.decisions: list[Decision] = []
        self.ahead: set[str] = set()
        self.before_the_route = False
        self.retry_after_s = 0
        self._of: dict[str, tuple[Decision, Named]] = {}
        self._reserved: dict[str, list[tuple[Decision, Limit]]] = {}
        self._unasked: set[str] = set()
        self._cleared: set[str] = set()
        self._looks: dict[str, Standing] = {}

    def decide(self, rates: Rates, asked: Sequence[Named]) -> bool:
        """Decide the limits of all identities together; whether the request may pass."""
        by_identity: dict[str, list[Named]] = {}
        for each in asked:
            by_identity.setdefault(split(each.key)[0], []).append(each)
        if not by_identity:
            return True
        groups = [(who, [each.limit for each in group]) for who, group in by_identity.items()]
        decisions = rates.admit_all(groups)
        for decision, group in zip(decisions, by_identity.values(), strict=True):
            self._keep(decision, group)
        denied = [each.retry_after_s for each in decisions if not each.admitted]
        if denied:
            self.retry_after_s = max(denied)
        return not denied

    def expect(self, asked: Sequence[Named]) -> None:
        """Flask-Limiter will ask for each of these once."""
        self._unasked.update(each.key for each in asked if not each.reserved)

    def answers(self, key: str) -> bool:
        """Whether `key` was decided for Flask-Limiter, which asks now; anybody else hits anew."""
        expected = key in self._unasked
        self._unasked.discard(key)
        return expected

    def refund(self, rates: Rates, key: str) -> None:
        """Give back what was reserved under `key`; called once for each reservation."""
        decision, limit = self._reserved[key].pop()
        own = tuple(each for each in decision.standings if each.limit == limit)
        owed = decision._replace(standings=own)
        if owed.taken:  # else there is no news that a denial should be forgotten for
            rates.refund(owed)

    def window(self, key: str) -> Standing | None:
        """The standing that a look at `key` finds."""
        if key in self._looks:
            return self._looks[key]
        standing = self.standings.get(key)
        if standing and self._of[key][1].reserved and standing.limit in self._of[key][0].taken:
            return standing._replace(remaining=standing.remaining + standing.limit.cost)
        return standing

    def counted(self) -> list[tuple[Limit, Standing | None]]:
        """Every limit that was to count this request, with how it stands; None: nobody counted."""
        # Nobody was asked about what a denial of another identity had decided already.
        return [
            (named.limit, self.standings[key])
            for key, (decision, named) in self._of.items()
            if self.standings[key] or decision.by is not DecidedBy.MEMO
        ]

    def judged(self) -> list[Standing]:
        """Every standing that had a say."""
        return [each for each in (*self._looks.values(), *self.standings.values()) if each]

    def knows(self, key: str) -> bool:
        return key not in self._cleared and (key in self._looks or key in self.standings)

    def keep(self, key: str) -> None:
        """What was reserved under `key` is deducted; called as `refund` is."""
        self._reserved[key].pop()
        decision, named = self._of[key]
        self._of[key] = decision, named._replace(reserved=False)

    def clear(self, key: str) -> None:
        """What was decided under `key` is no news any more."""
        self._cleared.add(key)

    def _keep(self, decision: Decision, group: Sequence[Named]) -> None:
        self.decisions.append(decision)
        told = {each.limit: each for each in decision.standings}
        for each in group:
            standing = told.get(each.limit)
            self._cleared.discard(each.key)
            if each.limit.probe:
                if standing:
                    self._looks[each.key] = standing
            else:
                self.standings[each.key] = standing
                self._of[each.key] = decision, each
            if each.reserved:
                self._reserved.setdefault(each.key, []).append((decision, each.limit))


def memo() -> Memo:
    """The current request's memo; outside of one nothing is remembered.

    It is not kept in `g`, which a request shares with an application's context around it.
    """
    if not has_request_context():
        return Memo()
    of_request = vars(request)
    if "rate_memo" not in of_request:
        of_request["rate_memo"] = Memo()
    found: Memo = of_request["rate_memo"]
    return found


def split(key: str) -> tuple[str, str]:
    """Identity and limit's name out of Flask-Limiter's `LIMITER/<identity>/<scope>/a/n/unit` key.

    Two keys are two limits. Read from its end: an identity may have slashes, as a network of
    addresses does. A hit by hand may have no scope, or another namespace, which then begins the
    name; a key without so much as an identity is one as a whole.
    """
    namespace, _, rest = key.partition("/")
    identity, *name = rest.rsplit("/", 4)
    if len(name) < 3:  # a, n and unit
        return key, rest or "all"
    # The empty part tells a namespace from a scope.
    return identity, "/".join(name if namespace == NAMESPACE else [namespace, "", *name])


def limit_of(key: str, amount: int, window_s: int, cost: int) -> Limit:
    """The limit under Flask-Limiter's key.

    Raises:
        InvalidInput: more hits than the log's 4 bytes can count.
    """
    if amount > MOST_HITS:
        raise InvalidInput(f"A rate limit is at most {MOST_HITS}, not {amount}.")
    return Limit(split(key)[1], amount, window_s * 1000, cost)


class ScriptStorage(Storage, MovingWindowSupport):
    """What Flask-Limiter asks: answered from the memo, or decided alone where it is not there.

    A hit by hand is not remembered: who looks at it later wants to know how it stands by then.
    """

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012  the library's attribute

    def __init__(
        self, uri: str | None = None, wrap_exceptions: bool = False, *, rates: Rates
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._rates = rates
        self.storage = type(rates).__name__  # `flask limiter config` shows it

    @property
    def base_exceptions(self) -> type[Exception]:
        return CoordinationError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether this limit lets the request pass."""
        ours = memo()
        if ours.answers(key):
            standing = ours.standings[key]
            return standing is None or not standing.denied
        ours.clear(key)
        identity, _ = split(key)
        return self._rates.admit(identity, [limit_of(key, limit, expiry, amount)]).admitted

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Start of the window (seconds since the epoch) and hits in it."""
        standing = memo().window(key) if memo().knows(key) else self._look(key, limit, expiry)
        if standing is None:
            return time.time(), 0
        return time.time() + standing.reset_ms / 1000 - expiry, limit - standing.remaining

    def check(self) -> bool:
        return True

    def clear(self, key: str) -> None:
        """Forget what was used up under `key`."""
        identity, name = split(key)
        self._rates.reset(identity, [name])
        memo().clear(key)

    def reset(self) -> int | None:
        raise NotImplementedError("one identity's limits can be reset, not everybody's")

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        raise NotImplementedError("every strategy is served by the sliding window")

    def get(self, key: str) -> int:
        raise NotImplementedError("every strategy is served by the sliding window")

    def get_expiry(self, key: str) -> float:
        raise NotImplementedError("every strategy is served by the sliding window")

    def _look(self, key: str, amount: int, expiry: int) -> Standing | None:
        decision = self._rates.admit(split(key)[0], [limit_of(key, amount, expiry, 0)])
        return decision.standings[0] if decision.standings else None
