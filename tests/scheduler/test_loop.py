"""The loop: which slot is looked at, and that nothing ends it but being asked to."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest

from app.errors import DatabaseUnavailable
from app.scheduler.jobs import Job
from app.scheduler.loop import Loop
from app.scheduler.runner import End, Run, Runner
from app.scheduler.schedules import Every
from tests.scheduler.conftest import HOUR, Batches, Bench
from tests.support.waiting import eventually


def test_a_look_takes_the_due_slot_and_another_one_finds_nothing_to_do(bench: Bench) -> None:
    work = Batches()
    loop = Loop(bench.runner(), [], poll_s=1, stopping=bench.stopping)
    for _ in range(3):
        loop.look(bench.job(work))
    slot = Every(HOUR).latest(bench.now_s())
    assert bench.ledger() == [(slot, "succeeded", 1, 10)]
    assert work.done == 1


def test_a_clock_that_is_set_back_does_not_stop_the_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime.datetime):
        """The `schedule` library's clock, which is an hour behind after the first look."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            behind = datetime.timedelta(hours=1 if runner.tries else 0)
            return cls.fromtimestamp((super().now(tz) - behind).timestamp())

    runner = Failing([DatabaseUnavailable("away")] * 3)
    monkeypatch.setattr("schedule.datetime.datetime", Clock)
    job = bench.job(Batches())
    thread = threading.Thread(target=Loop(runner, [job], poll_s=1, stopping=bench.stopping).run)
    thread.start()
    eventually(lambda: runner.tries >= 3, what="looks after the clock was set back")
    bench.stopping.set()
    thread.join(timeout=5)


class Failing(Runner):
    """A runner whose tries fail in different ways, and then work."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors, self.tries = errors, 0

    def look(self, job: Job, **_: Any) -> Run | None:  # noqa: ARG002  the overridden one's parameters
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return None


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), ZeroDivisionError()])
def test_an_error_is_left_to_the_next_look(bench: Bench, error: Exception) -> None:
    runner = Failing([error])
    loop = Loop(runner, [], poll_s=1, stopping=bench.stopping)
    for _ in range(2):
        loop.look(bench.job(Batches()))
    assert runner.tries == 2


def test_the_loop_looks_at_once_and_ends_when_asked(bench: Bench) -> None:
    work = Batches()
    loop = Loop(bench.runner(), [bench.job(work)], poll_s=60, stopping=bench.stopping)
    thread = threading.Thread(target=loop.run)
    thread.start()
    eventually(lambda: work.after_commits == 1, what="the first look")
    bench.stopping.set()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_slot_that_is_over_already_is_left_to_the_next_look(bench: Bench) -> None:
    """Were it looked at again at once, a row that lags behind the ledger would keep it for ever."""

    class Over(Failing):
        def look(self, job: Job, **options: Any) -> Run | None:
            super().look(job, **options)
            return Run(End.DONE)

    runner = Over([])
    Loop(runner, [], poll_s=1, stopping=bench.stopping).look(bench.job(Batches()))
    assert runner.tries == 1
