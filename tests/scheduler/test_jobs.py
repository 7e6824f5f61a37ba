"""The sweep as a job: every project that it touched is told of, and not over and over again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from sqlalchemy.orm import Session

from app.coordination.gate import Gate
from app.coordination.stale import Heard, Stale
from app.scheduler import jobs
from app.scheduler.jobs import Job, Overdue, Step
from app.scheduler.runner import End, Run
from app.services.actor import Actor
from app.services.changes import Changes
from app.services.ports import project_namespace
from app.services.sweep import SweepService
from tests.scheduler.conftest import SLOT, Bench
from tests.support.database import LONG_AGO, PassThroughCache, add_account, add_project, add_tasks

PROJECTS = 10


class Clock:
    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


class Told(PassThroughCache):
    """Writes down what it was told of, and when."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.told = clock, list[tuple[float, set[str]]]()

    def invalidate(self, changes: Sequence[Stale]) -> Heard:
        if changes:
            told = {namespace for change in changes for namespace in change.namespaces}
            self.told.append((self.clock(), told))
        return super().invalidate(changes)


class Sweep:
    """A sweep of as many projects with one overdue task each; a batch is one task."""

    batch_s = 0.3

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=self.clock))
        self.cache = Told(self.clock)
        owner = add_account(bench.database)
        self.names = [self._project(bench, owner) for _ in range(PROJECTS)]
        self.overdue = Overdue(SweepService(Changes(bench.database, self.cache, Gate())), 1)
        self._bench, self.batches, self.fails_at = bench, 0, -1

    def _project(self, bench: Bench, owner: Actor) -> str:
        project_id = add_project(bench.database, owner)
        add_tasks(bench.database, project_id, 1, due_at=LONG_AGO)
        return project_namespace(project_id)

    def job(self) -> Job:
        return replace(self._bench.job(self._batch), after=self.overdue.forget)

    def run(self, job: Job) -> Run:
        return self._bench.runner().run(job, SLOT)

    def _batch(self, session: Session, wait: bool) -> Step:
        self.clock.s += self.batch_s
        self.batches += 1
        if self.batches == self.fails_at:
            raise ZeroDivisionError
        return self.overdue.batch(session, wait)

    def told_of(self) -> set[str]:
        return {name for _, names in self.cache.told for name in names}


@pytest.fixture
def sweep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(bench, monkeypatch)


def test_every_project_is_told_of_by_the_end_and_at_most_once_a_second_before(
    sweep: Sweep,
) -> None:
    assert sweep.run(sweep.job()) == Run(End.SUCCEEDED, PROJECTS)
    assert sweep.told_of() == set(sweep.names)
    assert [len(names) for _, names in sweep.cache.told] == [1, 4, 4, 1]
    *in_between, _ = [at for at, _ in sweep.cache.told]
    assert all(later - earlier >= 1 for earlier, later in pairwise(in_between))


def test_each_project_is_told_of_once(sweep: Sweep) -> None:
    sweep.run(sweep.job())
    assert len(sweep.cache.invalidated) == PROJECTS
    sweep.overdue.forget()
    assert len(sweep.cache.invalidated) == PROJECTS


def test_without_the_end_the_last_projects_would_stay_stale(sweep: Sweep) -> None:
    """The control of the tests above."""
    sweep.run(replace(sweep.job(), after=lambda: None))
    assert len(sweep.told_of()) == PROJECTS - 1


def test_a_run_that_fails_has_told_of_what_it_committed(sweep: Sweep) -> None:
    sweep.fails_at = 4
    assert sweep.run(sweep.job()) == Run(End.FAILED, 3)
    assert len(sweep.told_of()) == 3


def test_a_slow_sweep_tells_after_every_batch(sweep: Sweep) -> None:
    sweep.batch_s = 1.0
    sweep.run(sweep.job())
    assert [len(names) for _, names in sweep.cache.told] == [1] * PROJECTS


def test_a_batch_that_counts_less_than_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot have changed -1 rows"):
        Step(-1, finished=True)
