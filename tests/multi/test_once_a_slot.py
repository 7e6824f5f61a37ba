"""Every slot once: five schedulers whose clocks are up to 90 s apart, while everything fails.

What they did is judged from what PostgreSQL's triggers saw (`cron_evidence`), and each wall that
keeps a slot from running twice is shown by taking it out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support import cron_trial
from tests.support.cron_trial import plan, started
from tests.support.waiting import eventually

SLOTS, MANY_SLOTS, SEED = 25, 200, 20
MOST_STOPS = 20


@pytest.mark.timeout(900)
@pytest.mark.parametrize("slots", [SLOTS, pytest.param(MANY_SLOTS, marks=pytest.mark.soak)])
def test_every_slot_is_committed_once_or_missed_by_policy_whatever_fails(
    postgres_url: str, tmp_path: Path, slots: int
) -> None:
    faults = plan(slots, seed=SEED)
    with started(postgres_url, tmp_path) as trial:
        verdict = cron_trial.run(trial, slots, faults)
    assert verdict.faults_found() == {}
    assert verdict.committed_once + verdict.missed == verdict.slots >= slots
    assert verdict.missed > 0  # by the policy, while nobody ran for longer than the grace
    assert trial.faults == Counter(faults)


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("no-fence", "stale_batches"),
        ("no-ledger", "duplicates"),
        ("naive-sweep", "marked_twice"),
    ],
)
def test_without_its_protection_a_stopped_scheduler_does_harm_when_it_wakes(
    postgres_url: str, tmp_path: Path, planted: str, found: str
) -> None:
    with started(postgres_url, tmp_path, planted=planted) as trial:
        for _ in range(MOST_STOPS):  # some fall into a transaction, which PostgreSQL then ends
            trial.make("stop")
            if found in trial.verdict().faults_found():
                break
        assert found in trial.verdict().faults_found()


def test_slots_cut_from_each_schedulers_own_clock_begin_before_their_time(
    postgres_url: str, tmp_path: Path
) -> None:
    with started(postgres_url, tmp_path, planted="local-clock") as trial:
        trial.wait_for(1)
        eventually(lambda: "early" in trial.verdict().faults_found(), what="an early slot")
