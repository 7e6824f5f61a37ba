"""The memo of denials: asks nothing that was just answered, and never denies too long."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.coordination.deny_memo import DenyMemo
from app.coordination.memory_rates import MemoryRates
from app.coordination.rates import Asked, DecidedBy, Decision, Limit

LIMIT = Limit("reads", 2, 500)
LONG = Limit("reads", 1, 60_000)


class Server(MemoryRates):
    """Rates that count how often they were asked, under a clock of the test's own."""

    def __init__(self) -> None:
        self.us = self.asked = 0
        super().__init__(clock_us=lambda: self.us)

    def admit_all(self, asked: Sequence[Asked]) -> list[Decision]:
        self.asked += 1
        return [each._replace(by=DecidedBy.SERVER) for each in super().admit_all(asked)]


def memo_on(server: Server) -> DenyMemo:
    return DenyMemo(server, clock=lambda: server.us / 1e6)


def test_whoever_was_denied_is_denied_again_without_asking() -> None:
    server = Server()
    memo = memo_on(server)
    decisions = [memo.admit("a", [LONG]) for _ in range(50)]
    assert [each.admitted for each in decisions] == [True] + [False] * 49
    assert server.asked == 2
    assert decisions[-1].by is DecidedBy.MEMO


def test_another_cost_another_limit_and_another_identity_are_asked_for() -> None:
    server = Server()
    memo = memo_on(server)
    for _ in range(3):
        memo.admit("a", [LONG])
    memo.admit("a", [LONG._replace(cost=0)])
    memo.admit("a", [LONG._replace(amount=5)])
    memo.admit("b", [LONG])
    assert server.asked == 5


def test_a_reset_elsewhere_is_missed_for_a_second_and_ones_own_not_at_all() -> None:
    server = Server()
    here, elsewhere = memo_on(server), memo_on(server)
    for _ in range(2):
        here.admit("a", [LONG])
    elsewhere.reset("a", ["reads"])
    server.us += 999_000
    assert not here.admit("a", [LONG]).admitted
    server.us += 1_000
    assert here.admit("a", [LONG]).admitted
    assert not here.admit("a", [LONG]).admitted
    here.reset("a", ["reads"])
    assert here.admit("a", [LONG]).admitted


def test_the_identities_remembered_are_bounded() -> None:
    server = Server()
    memo = DenyMemo(server, most_identities=2, clock=lambda: server.us / 1e6)
    for identity in "abc":
        for _ in range(2):
            memo.admit(identity, [LONG])
    asked = server.asked
    for identity in "cba":
        memo.admit(identity, [LONG])
    assert server.asked == asked + 1


Pauses = list[int]


def wrongly_denied(pauses: Pauses) -> int:
    """How often the memo denies what the server would have admitted."""
    server = Server()
    memo = memo_on(server)
    wrong = 0
    for pause_ms in pauses:
        server.us += pause_ms * 1_000
        would = server.admit("a", [LIMIT._replace(probe=True)]).admitted
        wrong += would and not memo.admit("a", [LIMIT]).admitted
    return wrong


@given(st.lists(st.integers(0, 400), max_size=60))
def test_it_never_denies_what_the_server_would_admit(pauses: Pauses) -> None:
    assert wrongly_denied(pauses) == 0


def test_a_memo_whose_clock_stands_still_would_have_done_so() -> None:
    """The control of the test above."""
    server = Server()
    memo = DenyMemo(server, clock=lambda: 0.0)
    for _ in range(3):
        memo.admit("a", [LIMIT])
    server.us += 500_000
    assert server.admit("a", [LIMIT._replace(probe=True)]).admitted
    assert not memo.admit("a", [LIMIT]).admitted
