"""No stale read: what a write replaced is shown by no process, once the writer was told so.

Several users read and write the same few tasks at four processes over one PostgreSQL and one
Valkey, and note it all (`tests.support.readers`); it is judged afterwards
(`tests.support.read_history`). Where something fails, a read may be stale by the stated bound,
counted from the commit. What the judge finds without the invalidation, without the look at what
moved, and without the relay and its gate, is shown by taking them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.multi.conftest import Env
from tests.support.cache_faults import FAULTS, Faults
from tests.support.proxy import Proxy
from tests.support.read_history import History, worst_s
from tests.support.read_trial import Trial
from tests.support.readers import BROKEN, Diary

PROCESSES, FEW = 4, 2
READS, MANY_READS, FEW_READS = 2_000, 100_000, 300
ANSWERS = {("GET", 200), ("GET", 404), ("POST", 201), ("PATCH", 200), ("DELETE", 204)}
BOUND_S = 5.0

Start = Callable[..., Trial]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    trials: list[Trial] = []

    def started(envs: Sequence[Env], *, planted: str = "") -> Trial:
        trials.append(Trial(envs, tmp_path, planted=planted))
        return trials[-1]

    yield started
    for trial in trials:
        trial.end()
        trial.kill()


@pytest.fixture
def healthy(shared_env: Env) -> Env:
    return _env(shared_env, patience_ms=5_000)


def _env(shared: Env, *, patience_ms: int) -> Env:
    """Of one process. On a busy machine nothing may look lost to it that is only slow."""
    waits = {
        "LIMITER_TIMEOUT_MS": str(patience_ms),
        "CACHE_TIMEOUT_MS": str(patience_ms),
        "REQUEST_REDIS_BUDGET_MS": str(2 * patience_ms),
    }
    # What is stale must not end by itself.
    return {**shared, **waits, "CACHE_TTL_S": "600"}


def _behind(ways: Sequence[Proxy], shared: Env) -> list[Env]:
    return [{**_env(shared, patience_ms=500), "REDIS_URL": way.url} for way in ways]


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("reads", [READS, pytest.param(MANY_READS, marks=pytest.mark.soak)])
def test_no_read_shows_what_a_write_replaced_that_was_acknowledged_before_it_began(
    start: Start, healthy: Env, reads: int
) -> None:
    trial = start([healthy] * PROCESSES)
    trial.wait_for_reads(reads)
    trial.end()
    diary, events = trial.diary, trial.cache_events()
    print(_counts(diary), dict(events))

    history = History(diary.acknowledged_writes())
    assert history.stale(diary.reads) == []
    assert history.impossible(diary.reads) == []
    assert diary.answers <= ANSWERS
    # It was the caches that were read, and every one of them.
    assert min(events[each] for each in ("hit_l1", "hit_l2", "stored")) > reads // 50
    assert events["invalidation_lost"] == events["fallback"] == 0


@pytest.mark.parametrize("planted", ["untold", "unjudged"])
def test_without_the_invalidation_or_the_look_at_what_moved_there_are_stale_reads(
    start: Start, healthy: Env, planted: str
) -> None:
    """Controls of the test above: everything else is as it was."""
    trial = start([healthy] * FEW, planted=planted)
    trial.wait_for_reads(FEW_READS)
    trial.end()
    stale = History(trial.diary.acknowledged_writes()).stale(trial.diary.reads)
    print(f"{len(stale)} stale sights in {_counts(trial.diary)}; worst: {worst_s(stale):.3f} s")
    assert len(stale) > 0


@pytest.mark.timeout(7_200)
@pytest.mark.parametrize(
    ("rounds", "lasts_s", "settles_s"),
    [(1, 6.0, 1.0), pytest.param(10, 9.0, 6.0, marks=pytest.mark.soak)],
)
def test_whatever_fails_a_read_is_stale_by_the_stated_bound_at_most(
    start: Start, shared_env: Env, tmp_path: Path, rounds: int, lasts_s: float, settles_s: float
) -> None:
    with Faults(tmp_path, PROCESSES, lasts_s=lasts_s, settles_s=settles_s) as faults:
        trial = start(_behind(faults.ways, shared_env))
        trial.wait_for_reads(200)
        for _ in range(rounds):
            for fault in FAULTS:
                faults.make(fault, trial)
        trial.end()
        diary, events = trial.diary, trial.cache_events()
    history = History(diary.committed_writes())
    worst = faults.worst_of_each(history.stale(diary.reads))
    print(_counts(diary), dict(events), {fault: round(s, 3) for fault, s in worst.items()})

    assert history.stale(diary.reads, bound_s=BOUND_S) == []
    assert history.impossible(diary.reads) == []
    assert diary.answers <= ANSWERS | {(method, BROKEN) for method, _ in ANSWERS}
    # These were failures indeed, and the caches were in use.
    assert worst["kill_a_writer"] > 0
    for event in ("hit_l1", "hit_l2", "gated_memory", "fallback", "invalidation_lost"):
        assert events[event] > 0


@pytest.mark.parametrize(
    "fault", ["kill_a_writer", pytest.param("fail_over", marks=pytest.mark.soak)]
)
def test_without_the_relay_and_its_gate_a_read_is_stale_by_more_than_the_bound(
    start: Start, shared_env: Env, tmp_path: Path, fault: str
) -> None:
    """Controls of the test above."""
    with Faults(tmp_path, FEW, lasts_s=2 * BOUND_S, settles_s=BOUND_S + 2) as faults:
        trial = start(_behind(faults.ways, shared_env), planted="unwatched")
        trial.wait_for_reads(200)
        faults.make(fault, trial)
        trial.end()
    found = History(trial.diary.committed_writes()).stale(trial.diary.reads, bound_s=BOUND_S)
    print(f"{len(found)} too stale sights in {_counts(trial.diary)}; worst: {worst_s(found):.3f} s")
    assert len(found) > 0


def _counts(diary: Diary) -> str:
    return f"{len(diary.reads)} reads, {len(diary.acknowledged_writes())} writes"
