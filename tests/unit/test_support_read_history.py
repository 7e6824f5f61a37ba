"""The judge of reads finds each kind of stale one, and nothing where all is well."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.support.read_history import History, Read, Write, worst_s


def write(version: int, began: float, since: float, **more: bool) -> Write:
    return Write("p", "t", version, began, since, **more)


def one(version: int | None, began: float, ended: float | None = None) -> Read:
    """The task itself was asked for."""
    seen = {} if version is None else {"t": version}
    return Read("web", "p", "t", seen, began, began if ended is None else ended)


def listed(version: int | None, began: float) -> Read:
    """The list of its project was."""
    return one(version, began)._replace(task=None)


CREATED, CHANGED = write(1, 1, 2), write(2, 3, 4)
DELETED = write(3, 5, 6, deletes=True)
HISTORY = History([CREATED, CHANGED, DELETED])


def test_a_read_that_shows_the_latest_version_is_not_stale() -> None:
    reads = [one(1, 2.5), one(2, 4.5), listed(1, 2.5), listed(2, 4.5), listed(None, 7)]
    assert HISTORY.stale([*reads, one(None, 7)]) == []
    assert HISTORY.impossible(reads) == []


def test_while_a_write_is_not_acknowledged_either_version_is_right() -> None:
    assert HISTORY.stale([one(1, 3.5), one(2, 3.5), listed(1, 3.5), listed(2, 3.5)]) == []
    assert HISTORY.stale([one(2, 5.5), one(None, 5.5), listed(2, 5.5), listed(None, 5.5)]) == []
    # It was read before, however late the answer came.
    assert HISTORY.stale([one(1, 3.9, ended=9)]) == []


def test_what_was_replaced_before_the_read_began_is_stale_by_the_time_since_then() -> None:
    (found,) = HISTORY.stale([one(1, 4.5)])
    assert (found.task, found.version, found.by_s) == ("t", 1, 0.5)
    assert str(found) == "web showed version 1 of t, replaced 0.500000 s before"
    assert [each.by_s for each in HISTORY.stale([listed(1, 4.25)])] == [0.25]
    # Two versions behind: since the first of them.
    assert [each.by_s for each in HISTORY.stale([one(1, 9)])] == [5]


def test_a_deleted_task_that_is_still_shown_is_stale() -> None:
    assert [each.by_s for each in HISTORY.stale([one(2, 7), listed(2, 8)])] == [1, 2]


def test_a_created_task_that_is_not_shown_is_stale() -> None:
    (alone, among) = HISTORY.stale([one(None, 2.5), listed(None, 3)])
    assert (alone.version, alone.by_s, among.by_s) == (0, 0.5, 1)
    assert str(alone) == "web showed nothing of t, replaced 0.500000 s before"


def test_a_list_is_judged_by_every_task_of_its_project_and_no_other() -> None:
    beside = Write("p", "u", 1, 1, 2)
    elsewhere = Write("q", "v", 1, 1, 2)
    history = History([CREATED, beside, elsewhere])
    assert [each.task for each in history.stale([listed(1, 3)])] == ["u"]
    assert history.stale([one(1, 3)]) == []


def test_the_bound_is_what_a_read_may_be_stale_by() -> None:
    read = one(1, 4.5)
    assert HISTORY.stale([read], bound_s=0.5) == []
    found = HISTORY.stale([read], bound_s=0.4)
    assert len(found) == 1
    assert (worst_s(found), worst_s([])) == (0.5, 0)


def test_a_write_whose_fate_is_unknown_accuses_nobody_and_the_next_one_does() -> None:
    unknown = write(2, 3, math.inf)
    assert History([CREATED, unknown]).stale([one(1, 9), one(2, 9)]) == []
    followed = History([CREATED, unknown, write(3, 5, 6)])
    assert [each.by_s for each in followed.stale([one(1, 9), one(2, 9)])] == [3, 3]


def test_a_version_that_nobody_had_begun_to_write_is_told() -> None:
    said = "web showed version {} of t, which nobody had written"
    assert HISTORY.impossible([one(2, 2.5)]) == [said.format(2)]
    assert HISTORY.impossible([one(4, 9)]) == [said.format(4)]
    assert HISTORY.impossible([one(2, 2.5, ended=3.5)]) == []


@given(
    lengths=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=9),
    data=st.data(),
)
def test_one_read_that_is_too_late_is_found_among_any_that_are_right(
    lengths: list[tuple[int, int]], data: st.DataObject
) -> None:
    now, writes, reads = 0, list[Write](), list[Read]()
    for version, (pause, length) in enumerate(lengths, start=1):
        began, now = now + pause, now + pause + length
        writes.append(write(version, began, now))
        reads += [one(version, began, ended=now), listed(version, now)]
    history = History(writes)
    assert history.stale(reads) == []
    assert history.impossible(reads) == []

    behind = data.draw(st.integers(1, len(lengths) - 1))
    late = writes[behind].since + data.draw(st.integers(1, 20))
    assert [each.by_s for each in history.stale([*reads, one(behind, late)])] == [
        late - writes[behind].since
    ]
