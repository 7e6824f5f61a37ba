"""What processes that share one lock wrote down, and what of it must not be.

A history is written by those who took part, one line for each event, and judged afterwards together
with the register's own list of the writes that it accepted. Times are seconds of CLOCK_MONOTONIC,
which all processes of a machine share. An event is written after it happened, and its time was read
so that it proves something: a holder that found its lease standing had it at `HELD.at`, because
that was read before it looked, and a lost lease never comes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple


class Kind(StrEnum):
    """`at` is the time after the answer of a grant, and before all the others.

    `GRANTED`: `asked` is when the question that was answered so was sent. `HELD`: the holder looked
    at its lease, which stood. `TRIED`: a write is about to be sent, and `ACCEPTED` or `REFUSED`
    what the register said; `number` is its place in the register's list. `KEPT`: the lease was
    renewed beyond its first end. `RELEASED`; or `LOST`, by its own time or the server's word.
    """

    GRANTED = "granted"
    HELD = "held"
    TRIED = "tried"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    KEPT = "kept"
    RELEASED = "released"
    LOST = "lost"


class Event(NamedTuple):
    kind: Kind
    process: str
    fence: int
    at: float
    asked: float = 0.0
    number: int = 0

    def line(self) -> str:
        return " ".join(map(str, self)) + "\n"


class Write(NamedTuple):
    """One entry of the register's list: what it was made, and with which fence."""

    fence: int
    value: int


class Belief(NamedTuple):
    """From `start` to `end` this process had good reason to think that it holds the lock."""

    start: float
    end: float
    process: str
    fence: int

    @property
    def lasted_s(self) -> float:
        return self.end - self.start


def read(text: str) -> list[Event]:
    """The events of one process; a last line without its end, of one that was killed, is none."""
    whole = text[: text.rfind("\n") + 1]
    return [_event(*line.split()) for line in whole.splitlines()]


def _event(kind: str, process: str, fence: str, at: str, asked: str, number: str) -> Event:
    return Event(Kind(kind), process, int(fence), float(at), float(asked), int(number))


def beliefs(events: Iterable[Event]) -> list[Belief]:
    """Of each acquisition whose holder ever looked: from the grant to the last good look."""
    looks: dict[tuple[str, int], float] = {}
    grants: dict[tuple[str, int], float] = {}
    for event in events:
        whose = event.process, event.fence
        if event.kind is Kind.HELD:
            looks[whose] = max(event.at, looks.get(whose, event.at))
        elif event.kind is Kind.GRANTED:
            grants[whose] = min(event.at, grants.get(whose, event.at))
    return sorted(Belief(grants[whose], end, *whose) for whose, end in looks.items())


def violations(events: Sequence[Event], written: Sequence[Write]) -> list[str]:
    """What must not be, a sentence each; in whatever order the processes' events come."""
    grants = [event for event in events if event.kind is Kind.GRANTED]
    return [
        *_shared_fences(grants),
        *_falling_fences(grants),
        *_overlaps(beliefs(events)),
        *_out_of_order(written),
        *_lost_updates(written),
        *_unaccounted(events, written),
    ]


def _shared_fences(grants: Sequence[Event]) -> Iterator[str]:
    for fence, times in Counter(grant.fence for grant in grants).items():
        if times > 1:
            whose = sorted(grant.process for grant in grants if grant.fence == fence)
            yield f"fence {fence} was granted {times} times: to {', '.join(whose)}"


def _falling_fences(grants: Sequence[Event]) -> Iterator[str]:
    """A grant fell between its question and its answer; which of two was first may be unknown."""
    latest: Event | None = None  # of those with lower fences, the one that was asked for last
    for grant in sorted(grants, key=attrgetter("fence")):
        if latest is not None and latest.fence < grant.fence and grant.at < latest.asked:
            yield (
                f"fences fell: {_whose(grant)} had been granted"
                f" before {_whose(latest)} was asked for"
            )
        if latest is None or grant.asked > latest.asked:
            latest = grant


def _overlaps(held: Sequence[Belief]) -> Iterator[str]:
    """Whoever begins to believe while another, who began earlier, still does."""
    longest: Belief | None = None
    for belief in held:
        if longest is not None and belief.start <= longest.end:
            both_s = min(belief.end, longest.end) - belief.start
            yield f"{_whose(longest)} and {_whose(belief)} both held the lock, for {both_s:.6f} s"
        if longest is None or belief.end > longest.end:
            longest = belief


def _out_of_order(written: Sequence[Write]) -> Iterator[str]:
    highest = 0
    for number, write in enumerate(written, start=1):
        if write.fence < highest:
            yield f"write {number} was accepted out of order: fence {write.fence} after {highest}"
        highest = max(highest, write.fence)


def _lost_updates(written: Sequence[Write]) -> Iterator[str]:
    """Each writer adds 1 to what it read."""
    for number, (before, after) in enumerate(pairwise((Write(0, 0), *written)), start=1):
        if after.value != before.value + 1:
            yield f"write {number} lost an update: it made {after.value} of {before.value}"


def _unaccounted(events: Sequence[Event], written: Sequence[Write]) -> Iterator[str]:
    """What the register accepted is what its writers say, or what one that died could not say."""
    told = {event.number: event.fence for event in events if event.kind is Kind.ACCEPTED}
    last = {event.process: event for event in events}
    unanswered = [event.fence for event in last.values() if event.kind is Kind.TRIED]
    for number, write in enumerate(written, start=1):
        if number in told:
            if told[number] != write.fence:
                yield f"write {number} is fence {write.fence}'s, and told as {told[number]}'s"
        elif write.fence in unanswered:
            unanswered.remove(write.fence)
        else:
            yield f"write {number}, of fence {write.fence}, was accepted and nobody tells of it"
    for number in sorted(told.keys() - range(1, len(written) + 1)):
        yield f"write {number}, of fence {told[number]}, is told as accepted and was not"


def _whose(one: Event | Belief) -> str:
    return f"fence {one.fence} of {one.process}"
