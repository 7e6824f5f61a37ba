"""The nine rules of the cache (`app/coordination/cache.py`), each with what happens without it.

Every script's own part of them is in `tests/lua`, and what needs a database (3, 5 and 7 again) in
`tests/services`.
"""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.coordination import keys
from app.coordination.cache_calls import MOST_TAGS
from app.coordination.gate import Gate
from app.coordination.memory_cache import MemoryCache
from app.coordination.stale import Stale
from app.coordination.values import unpacked
from tests.support.caches import HOME, TASKS, Process, visiting
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

NAMES = keys.cache(HOME, "list")


@pytest.fixture
def processes(valkey: Valkey) -> Iterator[tuple[Process, Process]]:
    both = Process(valkey.url), Process(valkey.url)
    yield both
    for each in both:
        each.client.close()


# --- 1: what is lost is missed --------------------------------------------------------------------


def lose(valkey: Valkey, what: str) -> None:
    with valkey.client() as raw:
        if what in ("meta", "tags"):
            raw.delete(getattr(NAMES, what))
        elif what == "tags of another epoch":
            raw.delete(NAMES.tags)
            raw.zadd(NAMES.tags, {"!another": 0})
        elif what == "history":
            raw.hset(NAMES.meta, "replid", "of the primary before")


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize(
    ("lost", "shown"),
    [("meta", 1), ("tags", 1), ("tags of another epoch", 1), ("history", 1), ("nothing", 0)],
)
def test_rule_1_what_is_lost_or_of_another_history_begins_an_epoch_in_which_all_is_missed(
    processes: tuple[Process, Process], valkey: Valkey, lost: str, shown: int, l1: bool
) -> None:
    """`nothing` is the control: the change is told to nobody here."""
    process, _ = processes
    for _ in range(2):
        with visiting(process.visit()):
            process.read()
    process.value = 1
    lose(valkey, lost)
    if not l1:
        assert process.read() == shown
    with visiting(process.visit()):
        assert process.read() == shown


def test_rule_1_a_namespaces_keys_share_a_slot() -> None:
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key in keys.cache("project:{1}", "a}b{c")}
    assert len(tags) == 1


# --- 2: a waiter's own check ----------------------------------------------------------------------


@pytest.mark.parametrize(("overtaken", "taken"), [(True, 1), (False, 0)])
def test_rule_2_a_waiter_takes_what_was_loaded_only_if_it_is_valid_for_itself(
    processes: tuple[Process, Process], overtaken: bool, taken: int
) -> None:
    leader, waiter = processes
    loading, go_on = threading.Event(), threading.Event()

    def load() -> bytes:
        loading.set()
        assert go_on.wait(10)
        return b"0"

    waiter.value = 1
    with ThreadPoolExecutor(2) as pool:
        led = pool.submit(leader.read, load)
        assert loading.wait(10)
        if overtaken:
            leader.cache.invalidate([TASKS])
        waited = pool.submit(waiter.read)
        eventually(lambda: waiter.events("wait") == 1, what="somebody who waits")
        go_on.set()
        assert (led.result(), waited.result()) == (0, taken)


# --- 4: the store ---------------------------------------------------------------------------------


def overtake(process: Process, valkey: Valkey, by: str) -> None:
    if by == "a tag":
        process.cache.invalidate([TASKS])
    elif by == "the floor":
        process.cache.invalidate([Stale((HOME,), tuple(f"t{n}" for n in range(MOST_TAGS + 1)))])
        process.cache.invalidate([Stale((HOME,), ("people",))])
    elif by == "another tag":
        process.cache.invalidate([Stale((HOME,), ("people",))])
    else:
        lose(valkey, by)


@pytest.mark.parametrize(
    ("by", "stored"),
    [("a tag", 0), ("the floor", 0), ("meta", 0), ("tags", 0), ("history", 0), ("another tag", 1)],
)
def test_rule_4_a_store_is_refused_if_a_tag_the_floor_or_the_epoch_moved(
    processes: tuple[Process, Process], valkey: Valkey, by: str, stored: int
) -> None:
    process, other = processes

    def load() -> bytes:
        overtake(other, valkey, by)
        return b"0"

    process.read(load)
    assert (process.events("stored"), process.events("store_refused")) == (stored, 1 - stored)
    other.value = 1
    assert other.read() == 1 - stored


# --- 5: after the commit, before the answer -------------------------------------------------------


@pytest.mark.parametrize(("order", "shown"), [("after", 1), ("before", 0)])
def test_rule_5_told_before_the_commit_a_reader_between_would_keep_the_old_value(
    processes: tuple[Process, Process], order: str, shown: int
) -> None:
    """`before` is the control."""
    writer, reader = processes
    if order == "before":
        writer.cache.invalidate([TASKS])
    reader.read()
    reader.value = 1  # the commit
    if order == "after":
        writer.cache.invalidate([TASKS])
    assert reader.read() == shown


def test_rule_5_telling_again_is_harmless(processes: tuple[Process, Process]) -> None:
    writer, reader = processes
    for value in range(3):
        reader.value = value
        writer.cache.invalidate([TASKS])
        writer.cache.invalidate([TASKS])
        assert [reader.read() for _ in range(2)] == [value] * 2


# --- 6: L1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("planted", "shown"), [(False, 1), (True, 0)])
def test_rule_6_an_invalidation_of_ones_own_does_not_move_what_was_seen(
    processes: tuple[Process, Process], planted: bool, shown: int
) -> None:
    """Planted, it does: the other's, which it overtook, is never heard of."""
    here, there = processes
    there.read()
    with visiting(here.visit()):
        here.read()
    here.value = 1
    there.cache.invalidate([TASKS])
    here.cache.invalidate([Stale((HOME,), ("people",))])
    if planted:
        here.cache.local._generations[HOME].seen = 2
    with visiting(here.visit()):
        assert here.read() == shown


def test_rule_6_l1_is_read_without_a_round_trip_of_its_own_and_never_after_a_move(
    processes: tuple[Process, Process],
) -> None:
    here, there = processes
    here.read()
    for value in range(3):
        here.value = value
        with visiting(here.visit()):
            assert [here.read() for _ in range(3)] == [value] * 3
        there.cache.invalidate([TASKS])
    assert here.events("hit_l1") == 6


def test_rule_6_a_request_that_did_not_look_reads_nothing_of_l1(
    processes: tuple[Process, Process],
) -> None:
    here, there = processes
    there.read()
    with visiting(here.visit()):
        here.read()
    here.value = 1
    there.cache.invalidate([TASKS])
    with visiting(here.cache.local.visit([HOME])):
        assert here.read() == 1
    assert here.events("hit_l1") == 0


# --- 7: the gate ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_s", "shown"), [(4.0, 0), (4.1, 1)])
def test_rule_7_what_is_shared_is_believed_for_four_seconds_after_a_look_at_the_outbox(
    valkey: Valkey, ahead_s: float, shown: int
) -> None:
    """In time is the control: its writer told nobody, and the old value is read."""
    now = [100.0]
    process = Process(valkey.url, gate=Gate(clock=lambda: now[0]))
    process.cache.gate.passed(100.0)
    with visiting(process.visit()):
        process.read()
        process.value = 1
        now[0] += ahead_s
        assert process.read() == shown
    process.client.close()


# --- 8: without Redis -----------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl_s", "shown"), [(5.0, 1), (60.0, 0)])
def test_rule_8_without_redis_nothing_is_older_than_five_seconds(ttl_s: float, shown: int) -> None:
    """From the start of its load. A minute is the control."""
    now = [100.0]
    memory = MemoryCache(ttl_s=ttl_s, clock=lambda: now[0])

    def load() -> bytes:
        now[0] += 3
        return b"0"

    assert memory.fetch(HOME, "list", tags=["tasks"], load=load) == b"0"
    now[0] += 2
    assert int(memory.fetch(HOME, "list", tags=["tasks"], load=lambda: b"1")) == shown


# --- 9: pruning, and bytes ------------------------------------------------------------------------


def test_rule_9_tags_are_pruned_by_raising_the_floor(
    processes: tuple[Process, Process], valkey: Valkey
) -> None:
    writer, reader = processes
    reader.read(key="early")
    writer.cache.invalidate([TASKS])
    reader.value = 1
    writer.cache.invalidate([Stale((HOME,), tuple(f"t{n}" for n in range(MOST_TAGS + 1)))])
    with valkey.client() as raw:
        assert raw.zcard(NAMES.tags) == MOST_TAGS + 1  # and the sentinel's is one of them
        assert raw.zscore(NAMES.tags, "tasks") is None
    assert reader.read(key="early") == 1
    reader.value = 2
    assert reader.read(key="early") == 1  # loaded above the floor


def test_rule_9_values_are_bytes_and_never_pickled() -> None:
    with pytest.raises(ValueError, match="no cached value begins"):
        unpacked(pickle.dumps("value"))
