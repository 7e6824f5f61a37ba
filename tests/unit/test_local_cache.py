"""L1: which entries a request may read, and what all of it takes at most."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import pytest

from app.coordination import local_cache
from app.coordination.local_cache import Generation, Loaded, LocalCache, Visit
from app.coordination.scripts import ScriptRegistry
from app.coordination.values import kept_bytes
from tests.support.waiting import eventually

SCRIPT = ScriptRegistry.from_folder()["cache_sync.v2"]
HOME = "project:1"
LONG_MS = 60_000


def local(**bounds: Any) -> LocalCache:
    return LocalCache(SCRIPT, meta_ttl_ms=LONG_MS, **bounds)


def hears(
    visit: Visit,
    *,
    epoch: bytes = b"e1",
    clock: int = 0,
    floor: int = 0,
    follows: bool = False,
    moved: Mapping[str, int] | None = None,
) -> Visit:
    """The server's answer about the visit's one namespace."""
    told = [each for tag, at in (moved or {}).items() for each in (tag.encode(), at)]
    visit.heard([[epoch, clock, floor, b"replid", int(follows), *told]])
    return visit


def follows(cache: LocalCache, clock: int, *, floor: int = 0, **moved: int) -> Visit:
    """One more request, that is told of what moved since."""
    return hears(cache.visit([HOME]), clock=clock, floor=floor, follows=True, moved=moved)


def put(
    visit: Visit, key: str, value: object, *, at: int, size: int = 1_000, ttl: int = LONG_MS
) -> None:
    """`size`: of all of the entry."""
    own = size - kept_bytes(HOME, key, "tasks")
    visit.put(HOME, key, value, Loaded(at, ["tasks"], ttl, own))


@pytest.fixture
def cache() -> LocalCache:
    """That has begun its namespace's generation, at 0."""
    begun = local()
    hears(begun.visit([HOME]))
    return begun


# --- what may be read -----------------------------------------------------------------------------


def test_a_request_that_was_not_answered_reads_and_keeps_nothing(cache: LocalCache) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    unanswered = cache.visit([HOME])
    assert (unanswered.get(HOME, "list"), unanswered.sequence(HOME)) == (None, None)
    put(unanswered, "other", "value", at=0)
    assert len(cache) == 1


def test_an_error_for_an_answer_answers_nothing(cache: LocalCache) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    visit = cache.visit([HOME])
    visit.heard([RuntimeError()])
    assert (visit.sequence(HOME) is not None, visit.get(HOME, "list")) == (False, None)


def test_it_asks_once(cache: LocalCache) -> None:
    visit = cache.visit([HOME, "account:1"])
    assert [len(visit.take_calls()) for _ in range(3)] == [2, 0, 0]


def test_an_entry_is_read_until_one_of_its_tags_moves(cache: LocalCache) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    assert follows(cache, 1, people=1).get(HOME, "list") == "old"
    assert follows(cache, 2, tasks=2).get(HOME, "list") is None


def test_what_was_loaded_at_the_sequence_of_the_move_is_read(cache: LocalCache) -> None:
    visit = follows(cache, 2, tasks=2)
    put(visit, "list", "new", at=2)
    assert visit.get(HOME, "list") == "new"


def test_what_was_loaded_before_the_move_is_not_read_though_it_was_kept_after_it(
    cache: LocalCache,
) -> None:
    late = follows(cache, 0)
    follows(cache, 1, tasks=1)
    put(late, "list", "old", at=0)
    assert late.get(HOME, "list") is None


def test_an_entry_under_the_floor_is_not_read(cache: LocalCache) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    assert follows(cache, 3, floor=1).get(HOME, "list") is None


def test_its_time_over_it_is_not_read(cache: LocalCache) -> None:
    visit = follows(cache, 0)
    put(visit, "soon", "old", at=0, ttl=20)
    put(visit, "list", "kept", at=0)
    eventually(lambda: visit.get(HOME, "soon") is None, what="the entry's end")
    assert visit.get(HOME, "list") == "kept"
    assert (len(cache), cache.bytes) == (1, 1_000)


# --- generations ----------------------------------------------------------------------------------


def test_another_epoch_begins_anew_and_the_old_requests_read_nothing_of_it(
    cache: LocalCache,
) -> None:
    before = follows(cache, 0)
    put(before, "list", "old", at=0)
    after = hears(cache.visit([HOME]), epoch=b"e2")
    assert after.get(HOME, "list") is None
    put(after, "list", "new", at=0)
    assert before.get(HOME, "list") is None


def test_an_entry_of_another_epoch_is_not_kept(cache: LocalCache) -> None:
    visit = follows(cache, 0)
    visit.put(HOME, "list", "value", Loaded(7, ["tasks"], LONG_MS, 10, b"e2"))
    assert len(cache) == 0
    visit.put(HOME, "list", "value", Loaded(7, ["tasks"], LONG_MS, 10, b"e1"))
    assert visit.get(HOME, "list") == "value"


def test_answers_that_arrive_in_the_wrong_order_lose_no_move(cache: LocalCache) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    first, second = cache.visit([HOME]), cache.visit([HOME])
    hears(second, clock=2, follows=True, moved={"people": 1, "tasks": 2})
    hears(first, clock=1, follows=True, moved={"people": 1})
    assert (first.get(HOME, "list"), second.get(HOME, "list")) == (None, None)
    assert (first.sequence(HOME), second.sequence(HOME)) == (2, 2)


def test_a_late_answer_does_not_turn_a_tag_back(cache: LocalCache) -> None:
    first, second = cache.visit([HOME]), cache.visit([HOME])
    hears(second, clock=5, follows=True, moved={"tasks": 5})
    hears(first, clock=3, follows=True, moved={"tasks": 3})
    put(first, "list", "between", at=4)
    assert first.get(HOME, "list") is None


def test_of_two_that_begin_the_one_that_knows_less_joins_the_other() -> None:
    cache = local()
    early, late = cache.visit([HOME]), cache.visit([HOME])
    hears(late, clock=7)
    hears(early, clock=5)
    put(early, "list", "value", at=7)
    assert late.get(HOME, "list") == "value"


def test_of_two_that_begin_the_one_that_knows_more_replaces_the_other() -> None:
    """What moved between the two is in nobody's answer: the earlier one's entries may show it."""
    cache = local()
    early, late = cache.visit([HOME]), cache.visit([HOME])
    hears(early, clock=5)
    put(early, "list", "old", at=5)
    hears(late, clock=7)
    assert late.get(HOME, "list") is None


def test_an_answer_of_a_lost_epoch_that_comes_late_does_no_harm(cache: LocalCache) -> None:
    late, current = cache.visit([HOME]), cache.visit([HOME])
    hears(current, epoch=b"e2")
    put(current, "list", "new", at=0)
    hears(late, clock=4, follows=True, moved={"tasks": 4})
    assert late.get(HOME, "list") is None
    hears(cache.visit([HOME]), epoch=b"e2", follows=True)


@pytest.mark.parametrize(("moved", "asks_as"), [(4_096, b"e1"), (4_097, "")])
def test_more_moved_tags_than_are_remembered_begin_anew(
    cache: LocalCache, moved: int, asks_as: bytes | str
) -> None:
    put(follows(cache, 0), "list", "old", at=0)
    for at in range(0, moved, 256):
        tags = {f"t{number}": at + 1 for number in range(at, min(at + 256, moved))}
        visit = follows(cache, at + 1, **tags)
    (call,) = cache.visit([HOME]).take_calls()
    assert call.args[0] == asks_as
    assert visit.sequence(HOME) is not None


# --- bounds ---------------------------------------------------------------------------------------


def test_the_entries_used_longest_ago_leave_first() -> None:
    cache = local(most_entries=3)
    visit = hears(cache.visit([HOME]))
    for key in "abc":
        put(visit, key, key, at=0)
    visit.get(HOME, "a")
    put(visit, "d", "d", at=0)
    assert [visit.get(HOME, key) for key in "abcd"] == ["a", None, "c", "d"]
    assert cache.bytes == 3_000


def test_all_entries_together_are_bounded() -> None:
    cache = local(most_bytes=10_000)
    visit = hears(cache.visit([HOME]))
    for number in range(50):
        put(visit, str(number), number, at=0, size=3_000)
        assert cache.bytes <= 10_000
    assert (len(cache), cache.bytes) == (3, 9_000)
    put(visit, "49", "larger", at=0, size=8_000)
    assert (len(cache), cache.bytes) == (1, 8_000)


def test_what_is_larger_than_all_of_it_is_not_kept_and_pushes_nothing_out() -> None:
    cache = local(most_bytes=10_000)
    visit = hears(cache.visit([HOME]))
    put(visit, "small", 1, at=0)
    put(visit, "large", 2, at=0, size=10_001)
    assert (visit.get(HOME, "small"), visit.get(HOME, "large")) == (1, None)


def known(cache: LocalCache, namespace: str) -> bool:
    """Whether it is still followed; looked at without being a use."""
    return namespace in cache._generations


def test_the_namespaces_asked_for_longest_ago_leave_first() -> None:
    cache = local(most_namespaces=3)
    for namespace in "abc":
        hears(cache.visit([namespace]))
    cache.visit(["a"])
    hears(cache.visit(["d"]))
    assert [known(cache, each) for each in "abcd"] == [True, False, True, True]


def remembered_moves() -> int:
    """Of every generation that is alive, in all caches."""
    gc.collect()
    return sum(len(each.moved) for each in gc.get_objects() if type(each) is Generation)


@pytest.mark.parametrize("bound", [{"most_namespaces": 10}, {"most_moved": 1_000}])
def test_what_is_remembered_of_moves_is_bounded_over_all_namespaces(bound: dict[str, int]) -> None:
    """Entries of the namespaces that left are still there, and hold nothing alive."""
    before, cache = remembered_moves(), local(**bound)
    for number in range(100):
        place = f"project:{number}"
        visit = hears(cache.visit([place]))
        visit.put(place, "list", "value", Loaded(0, ["tasks"], LONG_MS, 10))
        tags = {f"t{tag}": 1 for tag in range(100)}
        hears(cache.visit([place]), clock=1, follows=True, moved=tags)
    assert len(cache) == 100
    assert remembered_moves() - before == 1_000
    assert [known(cache, f"project:{number}") for number in (89, 90, 99)] == [False, True, True]


def test_a_request_reads_nothing_of_a_generation_that_has_left() -> None:
    cache = local(most_namespaces=1)
    visit = hears(cache.visit([HOME]))
    put(visit, "list", "old", at=0)
    hears(visit_of_another := cache.visit(["project:2"]))
    assert visit_of_another.sequence("project:2") is not None
    put(visit, "list", "old", at=0)
    assert visit.get(HOME, "list") is None


def test_nothing_leaks_over_many_stores_and_moves() -> None:
    """A hundred thousand of each, over a bounded set of keys."""
    cache = local(most_entries=100, most_bytes=50_000, most_namespaces=10, most_moved=500)
    for turn in range(100_000):
        place, tag = f"project:{turn % 50}", f"task:{turn % 997}"
        visit = cache.visit([place])
        followed = visit._questions[0].known is not None
        hears(visit, clock=turn, follows=followed, moved={tag: turn} if followed else None)
        visit.put(place, f"{turn % 211}", turn, Loaded(turn, [tag], LONG_MS, turn % 97))
    assert len(cache) <= 100
    assert cache.bytes == sum(held.size for held in cache._held.values()) <= 50_000
    assert len(cache._generations) == 10
    remembered = sum(len(each.moved) for each in cache._generations.values())
    assert cache._moved == remembered <= 500


def test_what_one_namespace_remembers_is_less_than_all_of_them_may() -> None:
    assert local()._most_moved > local_cache._MOST_MOVED
