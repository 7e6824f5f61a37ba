"""What was decided for the current request: Flask-Limiter, headers and metrics ask it.

A limit is known by the key that Flask-Limiter makes for it: `LIMITER/<identity>/<scope>/a/n/unit`.
One request may come with several limits of one key, such as two decorators of one text at two
costs. All of them take hits from the one log, so each is decided after the one before it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from flask import has_request_context, request
from flask_limiter import Limiter
from flask_limiter._limits import RuntimeLimit

from app.coordination.rates import DecidedBy, Decision, Limit, Rates, Standing

_NAMESPACE = "LIMITER"  # of limits that are parsed from a text
# Of a quoted string of RFC 8941: a scope may be anything, and a name goes into a header.
_NOT_IN_A_NAME = re.compile(r"[^ !#-\[\]-~]")


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
        plain: limits and whom they counted, of each limiter that decided without Flask-Limiter.
    """

    def __init__(self) -> None:
        self.standings: dict[str, Standing | None] = {}
        self.decisions: list[Decision] = []
        self.ahead: set[str] = set()
        self.before_the_route = False
        self.retry_after_s = 0
        self.plain: dict[Limiter, Sequence[tuple[RuntimeLimit, str]]] = {}
        self._by: dict[str, DecidedBy] = {}
        self._reserved: dict[str, list[tuple[Decision, Limit]]] = {}
        self._unasked: Counter[str] = Counter()
        self._cleared: set[str] = set()
        self._looks: dict[str, Standing] = {}
        self._policies: dict[str, str] = {}
        self._names: dict[str, int] = {}

    def decide(self, rates: Rates, asked: Sequence[Named]) -> bool:
        """Decide the limits of all identities together; whether the request may pass."""
        passed: list[tuple[Decision, Sequence[Named]]] = []
        for turn in _turns(asked):
            decided = self._decide(rates, turn)
            if not all(decision.admitted for decision, _ in decided):
                for decision, group in passed:
                    self._give_back(rates, decision, group)
                return False
            passed += decided
        return True

    def expect(self, asked: Sequence[Named]) -> None:
        """Flask-Limiter will ask for each of these once."""
        self._unasked.update(each.key for each in asked if not each.reserved)

    def answers(self, key: str) -> bool:
        """Whether `key` was decided for Flask-Limiter, which asks now; anybody else hits anew."""
        if not self._unasked[key]:
            return False
        self._unasked[key] -= 1
        return True

    def keep(self, key: str, cost: int) -> None:
        """What was reserved under `key` at this cost is deducted."""
        self._settle(key, cost)

    def refund(self, rates: Rates, key: str, cost: int) -> None:
        """Give back what was reserved under `key` at this cost."""
        for decision, limit in self._settle(key, cost):
            own = tuple(each for each in decision.standings if each.limit == limit)
            rates.refund(decision._replace(standings=own))
            self._add(key, limit.cost)

    def window(self, key: str) -> Standing | None:
        """The standing that a look at `key` finds: what is only reserved is still there."""
        standing = self._looks.get(key) or self.standings.get(key)
        reserved = sum(limit.cost for _, limit in self._reserved.get(key, ()))
        return standing and standing._replace(remaining=standing.remaining + reserved)

    def counted(self) -> list[tuple[str, Standing | None]]:
        """Policy and standing of every limit that was to count this request; None: nobody did."""
        # Nobody was asked about what a denial of another identity had decided already.
        return [
            (self._policies[key], self.standings[key])
            for key, by in self._by.items()
            if self.standings[key] or by is not DecidedBy.MEMO
        ]

    def denying(self) -> list[tuple[str, Standing]]:
        """Policy and standing of every limit that denies, those on being limited among them."""
        judged = [*self._looks.items(), *self.standings.items()]
        return [(self._policies[key], each) for key, each in judged if each and each.denied]

    def knows(self, key: str) -> bool:
        return key not in self._cleared and (key in self._looks or key in self.standings)

    def clear(self, key: str) -> None:
        """What was decided under `key` is no news any more."""
        self._cleared.add(key)

    def _decide(
        self, rates: Rates, asked: Sequence[Named]
    ) -> list[tuple[Decision, Sequence[Named]]]:
        by_identity: dict[str, list[Named]] = {}
        for each in asked:
            by_identity.setdefault(split(each.key)[0], []).append(each)
        groups = [(who, [each.limit for each in group]) for who, group in by_identity.items()]
        decisions = rates.admit_all(groups)
        denied = [each.retry_after_s for each in decisions if not each.admitted]
        self.retry_after_s = max(denied, default=self.retry_after_s)
        decided: list[tuple[Decision, Sequence[Named]]] = [
            *zip(decisions, by_identity.values(), strict=True)
        ]
        for decision, group in decided:
            self._note(decision, group)
        return decided

    def _note(self, decision: Decision, group: Sequence[Named]) -> None:
        self.decisions.append(decision)
        told = {each.limit: each for each in decision.standings}
        for key, limit, reserved in group:
            standing = told.get(limit)
            self._cleared.discard(key)
            self._name(key, limit)
            if not limit.probe:
                self.standings[key] = standing
                self._by[key] = decision.by
            elif standing:
                self._looks[key] = standing
            if reserved and limit in decision.taken:
                self._reserved.setdefault(key, []).append((decision, limit))

    def _name(self, key: str, limit: Limit) -> None:
        """`reads-60s`: the budget or route, and the window; the second of that name `reads-60s-2`.

        By the order in which they are asked for, so that a limit has one name in every request.
        """
        if key in self._policies:
            return
        name = _policy_of(limit.name, limit.window_ms)
        number = self._names[name] = self._names.get(name, 0) + 1
        self._policies[key] = name if number == 1 else f"{name}-{number}"

    def _settle(self, key: str, cost: int) -> list[tuple[Decision, Limit]]:
        """The oldest reservation under `key` at this cost, which is none any more."""
        for each in self._reserved.get(key, []):
            if each[1].cost == cost:
                self._reserved[key].remove(each)
                return [each]
        return []

    def _give_back(self, rates: Rates, decision: Decision, group: Sequence[Named]) -> None:
        """Another limit of the same request denied it."""
        rates.refund(decision)
        for key, limit, reserved in group:
            if limit in decision.taken:
                self._add(key, limit.cost)
                if reserved:
                    self._settle(key, limit.cost)

    def _add(self, key: str, hits: int) -> None:
        standing = self.standings.get(key)
        if standing:
            self.standings[key] = standing._replace(remaining=standing.remaining + hits)


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


@lru_cache(maxsize=1_024)
def _policy_of(name: str, window_ms: int) -> str:
    scope = _NOT_IN_A_NAME.sub("_", name.split("/")[0])
    return f"{scope}-{window_ms // 1000}s"


@lru_cache(maxsize=4_096)
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
    return identity, "/".join(name if namespace == _NAMESPACE else [namespace, "", *name])


def _turns(asked: Sequence[Named]) -> list[list[Named]]:
    """`asked` in turns, in each of which no two take hits of one log."""
    if len({each.key for each in asked}) == len(asked):
        return [[*asked]] if asked else []
    turns: list[list[Named]] = []
    takers: Counter[str] = Counter()
    for each in asked:
        turn = 0 if each.limit.probe else takers[each.key]
        takers[each.key] += not each.limit.probe
        if turn == len(turns):
            turns.append([])
        turns[turn].append(each)
    return turns
