"""One run of one slot: who may, what is committed, what is left for whom."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import delete, select, update

from app.coordination import keys
from app.coordination.absent import NoRedis
from app.db import cron, cron_ledger
from app.db.models import CronJob, CronRun
from app.errors import DatabaseUnavailable, LockBusy
from app.scheduler.progress import Progress
from app.scheduler.runner import End, Run
from app.scheduler.schedules import Every
from tests.scheduler.conftest import HOUR, SLOT, Batches, Bench
from tests.support.redis_servers import Valkey


def test_a_slot_runs_once_and_is_done_for_everybody_after(bench: Bench) -> None:
    work = Batches(3)
    assert bench.runner("one").run(bench.job(work), SLOT) == Run(End.SUCCEEDED, 30)
    assert bench.runner("two").run(bench.job(work), SLOT).end is End.DONE
    assert work.done == work.after_commits == 3
    assert bench.ledger() == [(SLOT, "succeeded", 1, 30)]


def test_a_slot_done_in_the_database_is_done_also_when_redis_forgot(
    bench: Bench, valkey: Valkey
) -> None:
    work = Batches()
    bench.runner().run(bench.job(work), SLOT)
    valkey.reset()
    assert bench.runner("two").run(bench.job(work), SLOT).end is End.DONE
    assert work.done == 1


def race(bench: Bench) -> tuple[Batches, list[End]]:
    """Four schedulers try one slot of five batches at the same moment."""
    together, work, ends = threading.Barrier(4), Batches(5), list[End]()

    def run(name: str) -> None:
        runner = bench.runner(name)
        together.wait()
        ends.append(runner.run(bench.job(work), SLOT).end)

    threads = [threading.Thread(target=run, args=(f"s{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return work, ends


def test_without_redis_the_database_alone_lets_one_of_many_run(
    bench_without_redis: Bench,
) -> None:
    work, ends = race(bench_without_redis)
    assert ends.count(End.SUCCEEDED) == 1
    assert work.done == 5
    assert bench_without_redis.ledger() == [(SLOT, "succeeded", 1, 50)]


def test_without_the_databases_claim_several_would_have_run_it(
    bench_without_redis: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: the same race with nobody minting fences."""
    monkeypatch.setattr(cron, "mint_fence", lambda *_, **__: 1)
    monkeypatch.setattr(cron_ledger, "open_run", lambda *_, **__: True)
    monkeypatch.setattr(cron, "renew", lambda *_, **__: None)
    monkeypatch.setattr(cron, "finish", lambda *_, **__: None)
    _, ends = race(bench_without_redis)
    assert ends.count(End.SUCCEEDED) > 1


def test_the_claim_in_redis_spares_the_others_the_database(bench: Bench) -> None:
    seen = list[End]()
    other = bench.runner("two")
    work = Batches(between=lambda: seen.append(other.run(bench.job(Batches()), SLOT).end))
    bench.runner("one").run(bench.job(work), SLOT)
    assert seen == [End.TAKEN]


class Overtaken(Batches):
    """After the first batch the lease ends unnoticed, and another scheduler does the slot."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(3)
        self.bench, self.others = bench, list[Run]()

    def _committed(self) -> None:
        super()._committed()
        if self.done == 1:
            expire_lease(self.bench)
            other = self.bench.runner("two", client=NoRedis("lock"))
            self.others.append(other.run(self.bench.job(Batches()), SLOT))


def expire_lease(bench: Bench) -> None:
    with bench.database.write() as session:
        session.execute(update(CronJob).values(lease_until=0))


def test_a_holder_that_was_overtaken_commits_nothing_more(bench: Bench) -> None:
    slow = Overtaken(bench)
    assert bench.runner("one").run(bench.job(slow), SLOT) == Run(End.FENCED_OUT, 10)
    assert slow.others == [Run(End.SUCCEEDED, 10)]
    assert bench.ledger() == [(SLOT, "fenced_out", 1, 10), (SLOT, "succeeded", 2, 10)]
    assert bench.sample("cron_fence_rejections_total", job="overdue") == 1


def test_without_the_fenced_renewal_the_overtaken_holder_would_have_gone_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: the same run with the protection taken out."""
    monkeypatch.setattr(cron, "renew", lambda *_, **__: None)
    slow = Overtaken(bench)
    bench.runner("one").run(bench.job(slow), SLOT)
    assert slow.done > 1
    assert bench.ledger()[0][3] > 10


def test_a_stop_ends_a_run_between_two_batches_and_frees_both_leases(
    bench: Bench, valkey: Valkey
) -> None:
    work = Batches(5, between=bench.stopping.set)
    assert bench.runner("one").run(bench.job(work), SLOT) == Run(End.STOPPED, 10)
    with valkey.client() as raw:
        assert raw.exists(keys.cron("overdue", SLOT).lease) == 0
    bench.stopping.clear()
    assert bench.runner("two").run(bench.job(Batches(2)), SLOT) == Run(End.SUCCEEDED, 20)
    assert bench.ledger() == [(SLOT, "stopped", 1, 10), (SLOT, "succeeded", 2, 20)]


def test_what_fails_after_the_last_commit_does_not_undo_the_outcome(bench: Bench) -> None:
    class Careless(Batches):
        def _committed(self) -> None:
            super()._committed()
            raise ZeroDivisionError

    assert bench.runner().run(bench.job(Careless(2)), SLOT) == Run(End.SUCCEEDED, 20)
    assert bench.ledger() == [(SLOT, "succeeded", 1, 20)]


def test_a_run_that_the_database_interrupts_frees_its_lease_for_the_next_look(
    bench: Bench,
) -> None:
    def busy() -> None:
        raise DatabaseUnavailable("The database is too busy.")

    assert bench.runner().run(bench.job(Batches(between=busy)), SLOT).end is End.UNAVAILABLE
    assert bench.runner("two").run(bench.job(Batches()), SLOT) == Run(End.SUCCEEDED, 10)
    assert bench.ledger() == [(SLOT, "succeeded", 1, 10)]


def test_rows_that_others_hold_for_long_make_one_attempt_and_not_one_of_every_look(
    bench: Bench,
) -> None:
    def held() -> None:
        raise LockBusy("A row stayed locked for longer than the lock timeout.")

    for name in ("one", "two") * 3:
        assert bench.runner(name).run(bench.job(Batches(between=held)), SLOT).end is End.UNAVAILABLE
    assert bench.ledger() == [(SLOT, "stopped", 1, 0)]
    for name in ("one", "two"):
        labels = {"job": "overdue", "instance": name, "outcome": "unavailable"}
        assert bench.sample("cron_runs_total", **labels) == 3


def test_the_ledger_stays_as_long_as_it_may_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron_ledger, "KEPT", 3)
    for number in range(8):
        bench.runner().run(bench.job(Batches()), SLOT + number)
    assert [slot - SLOT for slot, *_ in bench.ledger()] == [4, 5, 6, 7]


def test_slots_that_are_only_passed_over_do_not_lengthen_it_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cron_ledger, "KEPT", 3)
    bench.runner().run(bench.job(Batches()), SLOT)
    job = bench.job(Batches(), grace_s=1, schedule=Every(7 * 86_400))
    assert bench.runner().look(job) == Run(End.PASSED_OVER)
    assert len(bench.ledger()) == 4


def test_a_slot_that_has_not_begun_by_the_databases_clock_is_not_claimed(bench: Bench) -> None:
    soon = int(bench.now_s()) + 60
    assert bench.runner("fast").run(bench.job(Batches()), soon).end is End.TAKEN
    assert bench.runner("right").run(bench.job(Batches()), SLOT).end is End.SUCCEEDED
    assert bench.ledger() == [(SLOT, "succeeded", 1, 10)]


def test_a_bug_in_a_job_ends_the_slot_as_failed_and_is_not_tried_for_ever(bench: Bench) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    assert bench.runner().run(bench.job(Batches(between=bug)), SLOT).end is End.FAILED
    assert bench.runner("two").run(bench.job(Batches()), SLOT).end is End.DONE
    assert bench.ledger() == [(SLOT, "failed", 1, 0)]


def crash(bench: Bench, slot: int = SLOT) -> None:
    """A scheduler that dies after its first batch of 10 rows; its lease ends later."""
    with bench.database.write() as session:
        fence = cron.mint_fence(session, job="overdue", slot=slot, holder="dead", ttl_ms=60_000)
        assert fence is not None
        cron_ledger.open_run(session, job="overdue", slot=slot, fence=fence, instance="dead")
        cron_ledger.heartbeat(session, job="overdue", slot=slot, fence=fence, rows=10)


def test_a_crashed_run_is_taken_up_in_its_slot_once_its_lease_has_ended(bench: Bench) -> None:
    crash(bench)
    assert bench.runner("two").run(bench.job(Batches()), SLOT).end is End.TAKEN
    expire_lease(bench)
    assert bench.runner("two").run(bench.job(Batches()), SLOT) == Run(End.SUCCEEDED, 10)
    assert bench.ledger() == [(SLOT, "fenced_out", 1, 10), (SLOT, "succeeded", 2, 10)]


def test_an_older_slot_left_open_becomes_abandoned_by_the_next(bench: Bench) -> None:
    crash(bench)
    expire_lease(bench)
    later = SLOT + HOUR
    assert bench.runner().run(bench.job(Batches()), later).end is End.SUCCEEDED
    assert bench.ledger() == [(SLOT, "abandoned", 1, 10), (later, "succeeded", 1, 10)]


def test_a_slot_behind_the_jobs_latest_is_not_run_any_more(bench: Bench) -> None:
    bench.runner().run(bench.job(Batches()), SLOT + HOUR)
    assert bench.runner("slow clock").run(bench.job(Batches()), SLOT).end is End.TAKEN
    assert bench.ledger() == [(SLOT + HOUR, "succeeded", 1, 10)]


def test_what_redis_remembers_as_done_is_run_if_the_database_does_not(bench: Bench) -> None:
    """The database was restored from a backup that is older than the run."""
    bench.runner().run(bench.job(Batches()), SLOT)
    with bench.database.write() as session:
        session.execute(delete(CronRun))
        session.execute(delete(CronJob))
    assert bench.runner().run(bench.job(Batches()), SLOT).end is End.SUCCEEDED


def test_a_pause_stops_a_run_after_its_batch_and_resuming_goes_on_there(bench: Bench) -> None:
    def pause() -> None:
        if work.done == 1:
            set_paused(bench, True)

    class Pausing(Batches):
        def _committed(self) -> None:
            super()._committed()
            pause()

    work = Pausing(3)
    assert bench.runner("one").run(bench.job(work), SLOT) == Run(End.STOPPED, 10)
    assert bench.runner("two").look(bench.job(work)) is None
    assert bench.runner("two").run(bench.job(work), SLOT).end is End.TAKEN
    set_paused(bench, False)
    assert bench.runner("two").run(bench.job(work), SLOT) == Run(End.SUCCEEDED, 20)
    assert bench.ledger() == [(SLOT, "stopped", 1, 10), (SLOT, "succeeded", 2, 20)]


def set_paused(bench: Bench, paused: bool) -> None:
    with bench.database.write() as session:
        cron.set_paused(session, job="overdue", paused=paused)


def test_runs_are_counted_by_job_instance_and_outcome(bench: Bench) -> None:
    bench.runner("one").run(bench.job(Batches(2)), SLOT)
    bench.runner("two").run(bench.job(Batches()), SLOT + HOUR)
    for name in ("one", "two"):
        labels = {"job": "overdue", "instance": name, "outcome": "succeeded"}
        assert bench.sample("cron_runs_total", **labels) == 1
    assert bench.sample("cron_rows_total", job="overdue") == 30
    assert bench.sample("cron_run_seconds_count", job="overdue") == 2
    assert bench.sample("cron_last_success_timestamp_seconds", job="overdue") > 0


def test_progress_tells_rows_total_and_what_is_left(bench: Bench) -> None:
    told = list[Progress]()
    job = replace(bench.job(Batches(3)), count=lambda _: 30)
    bench.runner().run(job, SLOT, on_progress=told.append)
    assert [(each.rows, each.total) for each in told] == [(10, 30), (20, 30), (30, 30)]
    assert told[-1].left_s == 0
    with bench.database.read() as session:
        assert session.scalars(select(CronRun.total)).all() == [30]
