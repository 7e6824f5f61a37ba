"""The judge of a lock's history finds each kind of fault, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.lock_history import Belief, Event, Kind, Write, beliefs, read, violations

Story = list[Event]


def held(process: str, fence: int, start: float, end: float, *, write: int = 0) -> Story:
    """One acquisition from its grant at `start` to its release at `end`; `write` is its number."""
    written = [
        Event(Kind.TRIED, process, fence, start),
        Event(Kind.ACCEPTED, process, fence, start, number=write),
    ]
    return [
        Event(Kind.GRANTED, process, fence, start, asked=start - 0.5),
        Event(Kind.HELD, process, fence, start),
        *(written if write else []),
        Event(Kind.HELD, process, fence, end),
        Event(Kind.RELEASED, process, fence, end),
    ]


CLEAN = [*held("a", 11, 1, 2, write=1), *held("b", 12, 3, 4, write=2)]
WRITTEN = [Write(11, 1), Write(12, 2)]


def test_nothing_is_found_where_one_holder_follows_the_other() -> None:
    assert violations(CLEAN, WRITTEN) == []
    assert violations([], []) == []


def test_two_who_believe_in_their_lease_at_the_same_moment_overlap() -> None:
    assert violations([*held("a", 11, 1, 3), *held("b", 12, 2.5, 4)], []) == [
        "fence 11 of a and fence 12 of b both held the lock, for 0.500000 s"
    ]
    # One who believes for long overlaps with all who come and go meanwhile.
    during = [*held("b", 12, 2, 3), *held("c", 13, 4, 5), *held("d", 14, 10, 11)]
    assert violations([*held("a", 11, 1, 9), *during], []) == [
        "fence 11 of a and fence 12 of b both held the lock, for 1.000000 s",
        "fence 11 of a and fence 13 of c both held the lock, for 1.000000 s",
    ]
    # A moment is enough.
    assert len(violations([*held("a", 11, 1, 2), *held("b", 12, 2, 2)], [])) == 1


def test_who_was_stopped_and_found_its_lease_lost_does_not_overlap() -> None:
    stopped = [
        Event(Kind.GRANTED, "a", 11, 1, asked=0.5),
        Event(Kind.HELD, "a", 11, 1.5),
        Event(Kind.TRIED, "a", 11, 8),  # it was stopped after the look
        Event(Kind.REFUSED, "a", 11, 8),
        Event(Kind.LOST, "a", 11, 8),
    ]
    assert violations([*stopped, *held("b", 12, 3, 9, write=1)], [Write(12, 1)]) == []
    assert beliefs(stopped) == [Belief(1, 1.5, "a", 11)]
    assert beliefs(stopped)[0].lasted_s == 0.5
    # Stopped before it could look at all, it never had reason to believe.
    assert beliefs([Event(Kind.GRANTED, "a", 11, 8, asked=1)]) == []


def test_a_fence_that_two_were_given_is_found() -> None:
    found = violations([*held("b", 11, 3, 4), *held("a", 11, 1, 2)], [])
    assert found == ["fence 11 was granted 2 times: to a, b"]
    again = violations([*held("a", 11, 1, 2), *held("a", 11, 3, 4)], [])
    assert "fence 11 was granted 2 times: to a, a" in again


def test_a_fence_below_an_earlier_one_is_found() -> None:
    assert violations([*held("a", 12, 1, 2), *held("b", 11, 3, 4)], []) == [
        "fences fell: fence 12 of a had been granted before fence 11 of b was asked for"
    ]
    # Also behind others that rose.
    rose = [*held("a", 11, 1, 2), *held("b", 13, 3, 4), *held("c", 14, 5, 6)]
    assert violations([*rose, *held("d", 12, 7, 8)], []) == [
        "fences fell: fence 13 of b had been granted before fence 12 of d was asked for",
        "fences fell: fence 14 of c had been granted before fence 12 of d was asked for",
    ]


def test_of_two_grants_whose_questions_crossed_nobody_knows_which_was_first() -> None:
    """One was answered, and stopped before it could look at the time."""
    late = Event(Kind.GRANTED, "a", 11, 9, asked=1)
    assert violations([late, *held("b", 12, 3, 4)], []) == []


def test_a_write_that_was_accepted_after_one_with_a_higher_fence_is_found() -> None:
    crossed = [*held("a", 11, 1, 2, write=2), *held("b", 12, 3, 4, write=1)]
    assert violations(crossed, [Write(12, 1), Write(11, 2)]) == [
        "write 2 was accepted out of order: fence 11 after 12"
    ]
    followed = [*crossed, *held("c", 13, 5, 6, write=3)]
    assert len(violations(followed, [Write(12, 1), Write(11, 2), Write(13, 3)])) == 1


def test_a_write_that_undoes_another_is_found() -> None:
    assert violations(CLEAN, [Write(11, 1), Write(12, 1)]) == [
        "write 2 lost an update: it made 1 of 1"
    ]


def test_a_write_that_only_one_side_knows_of_is_found() -> None:
    assert violations(CLEAN, [*WRITTEN, Write(12, 3)]) == [
        "write 3, of fence 12, was accepted and nobody tells of it"
    ]
    assert violations(CLEAN, WRITTEN[:1]) == [
        "write 2, of fence 12, is told as accepted and was not"
    ]
    assert violations(CLEAN, [Write(11, 1), Write(13, 2)]) == [
        "write 2 is fence 13's, and told as 12's"
    ]


@pytest.mark.parametrize("accepted", [True, False])
def test_who_was_killed_within_a_write_may_owe_the_answer_once(accepted: bool) -> None:
    killed = [
        Event(Kind.GRANTED, "c", 13, 5, asked=4.5),
        Event(Kind.HELD, "c", 13, 5),
        Event(Kind.TRIED, "c", 13, 5),
    ]
    assert violations([*CLEAN, *killed], [*WRITTEN, Write(13, 3)][: 3 if accepted else 2]) == []
    assert violations([*CLEAN, *killed], [*WRITTEN, Write(13, 3), Write(13, 4)]) == [
        "write 4, of fence 13, was accepted and nobody tells of it"
    ]


def test_events_are_read_as_they_were_written_and_half_a_line_is_none() -> None:
    text = "".join(event.line() for event in CLEAN)
    assert read(text) == CLEAN
    assert read(text[:-1]) == CLEAN[:-1]
    assert read(text.partition("\n")[0]) == []


def _passed_on(lengths: Sequence[int], processes: Sequence[int]) -> Story:
    """The lock as it went from one to the next, and each wrote."""
    story, now = Story(), 1
    for number, (length, process) in enumerate(zip(lengths, processes, strict=False), start=1):
        story += held(f"p{process}", 10 + number, now, now + length, write=number)
        now += length + 1
    return story


TURNS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=12)


@given(turns=TURNS, data=st.data())
def test_one_holder_that_stays_longer_is_found_among_any_others(
    turns: list[tuple[int, int]], data: st.DataObject
) -> None:
    story = _passed_on(*zip(*turns, strict=True))
    written = [Write(10 + number, number) for number in range(1, len(turns) + 1)]
    by_process = sorted(story, key=lambda event: event.process)
    assert violations(by_process, written) == []

    staying = data.draw(st.integers(11, 9 + len(turns)))
    grants = {event.fence: event for event in story if event.kind is Kind.GRANTED}
    whose, followed = grants[staying].process, grants[staying + 1]
    (found,) = violations([*by_process, Event(Kind.HELD, whose, staying, followed.at)], written)
    assert found.startswith(f"fence {staying} of {whose} and fence {staying + 1} of ")
