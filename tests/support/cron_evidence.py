"""What PostgreSQL saw of a trial of schedulers, written down by triggers, and the verdict on it.

The ledger is under trial itself, so it is no witness: triggers note each outcome, each batch and
each mark as it commits, whatever the ledger, its index and its fences make of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

_WITNESSES = """
CREATE TABLE seen_outcomes (slot bigint, outcome text, began timestamptz, at timestamptz);
CREATE TABLE seen_batches (slot bigint, fence bigint, newest_fence bigint);
CREATE TABLE seen_marks (task uuid);

CREATE FUNCTION note_outcome() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen_outcomes VALUES (NEW.slot, NEW.outcome, NEW.started_at, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER ended AFTER UPDATE OF outcome ON cron_runs
    FOR EACH ROW WHEN (NEW.outcome IS NOT NULL) EXECUTE FUNCTION note_outcome();
CREATE TRIGGER entered AFTER INSERT ON cron_runs
    FOR EACH ROW WHEN (NEW.outcome IS NOT NULL) EXECUTE FUNCTION note_outcome();

CREATE FUNCTION note_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen_batches
    SELECT NEW.slot, NEW.fence, fence FROM cron_jobs WHERE job = NEW.job;
    RETURN NULL;
END $$;
CREATE TRIGGER worked AFTER UPDATE OF rows ON cron_runs
    FOR EACH ROW EXECUTE FUNCTION note_batch();

CREATE FUNCTION note_mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen_marks VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER marked AFTER UPDATE OF overdue_at ON tasks
    FOR EACH ROW EXECUTE FUNCTION note_mark();
"""
_COMMITS = """
SELECT slot, count(*) FROM seen_outcomes WHERE outcome = 'succeeded' AND slot BETWEEN %s AND %s
GROUP BY slot
"""
_LEDGER = """
SELECT slot FROM cron_runs WHERE outcome = 'succeeded' AND slot BETWEEN %s AND %s
"""
_MISSED = """
SELECT slot, extract(epoch FROM at)::float - slot FROM seen_outcomes
WHERE outcome = 'missed' AND slot BETWEEN %s AND %s
"""
_EARLY = "SELECT count(*) FROM seen_outcomes WHERE extract(epoch FROM began) < slot"
_STALE = "SELECT count(*) FROM seen_batches WHERE fence < newest_fence"
_TWICE = "SELECT count(*) - count(DISTINCT task) FROM seen_marks"
_TOLD_TWICE = "SELECT count(*) - count(DISTINCT subject_id) FROM outbox WHERE kind = 'task.overdue'"
_UNMARKED = "SELECT count(*) FROM tasks WHERE overdue_at IS NULL"
_UNTOLD = """
SELECT count(*) FROM tasks WHERE id NOT IN (SELECT subject_id FROM outbox)
"""
_TAKEOVERS = """
SELECT extract(epoch FROM later.started_at - died.heartbeat_at)::float
FROM cron_runs later JOIN cron_runs died
  ON (died.job, died.slot, died.attempt) = (later.job, later.slot, later.attempt - 1)
WHERE died.outcome = 'fenced_out'
"""
_WRONG = (
    *("duplicates", "unjustly_missed", "early", "stale_batches", "marked_twice"),
    *("unmarked", "untold", "ledger_differs"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of `slots` slots.

    `committed_once` and `missed` add up to `slots` where all is well, and the rest is 0:
    `duplicates` (commits of a slot beyond its first), `unjustly_missed` (passed over within the
    grace), `early` (begun before their time), `stale_batches` (committed under a fence that was no
    longer the newest), `marked_twice`, `unmarked` and `untold` tasks, `ledger_differs` (slots of
    which the ledger says otherwise). `takeovers_s`: from a dead run's last heartbeat to the next.
    """

    slots: int
    committed_once: int
    missed: int
    duplicates: int
    unjustly_missed: int
    early: int
    stale_batches: int
    marked_twice: int
    unmarked: int
    untold: int
    ledger_differs: int
    takeovers_s: tuple[float, ...]

    def faults_found(self) -> dict[str, int]:
        """What must not be, and how often it was."""
        unaccounted = self.slots - self.committed_once - self.missed
        found = {name: getattr(self, name) for name in _WRONG} | {"unaccounted": unaccounted}
        return {name: count for name, count in found.items() if count}

    def takeover_s(self, quantile: float) -> float | None:
        """A quantile of the take-overs; None where there was none."""
        if not self.takeovers_s:
            return None
        ordered = sorted(self.takeovers_s)
        at = min(len(ordered) - 1, int(len(ordered) * quantile))
        return round(statistics.median(ordered) if quantile == 0.5 else ordered[at], 3)


def set_up_witnesses(connection: psycopg.Connection[Any]) -> None:
    """Before the first scheduler starts."""
    connection.execute(_WITNESSES)


def judge(connection: psycopg.Connection[Any], first: int, last: int, *, grace_s: int) -> Verdict:
    """The verdict on the slots from `first` to `last`, which begin every second."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query.encode(), (first, last)).fetchall()

    def count(query: str) -> int:
        return int((connection.execute(query.encode()).fetchone() or (0,))[0])

    commits: dict[int, int] = dict(rows(_COMMITS))
    missed: dict[int, float] = dict(rows(_MISSED))
    ledger = [slot for (slot,) in rows(_LEDGER)]
    return Verdict(
        slots=last - first + 1,
        committed_once=sum(times == 1 for times in commits.values()),
        missed=len(missed.keys() - commits.keys()),
        duplicates=sum(times - 1 for times in commits.values()),
        unjustly_missed=sum(late_s <= grace_s for late_s in missed.values()),
        early=count(_EARLY),
        stale_batches=count(_STALE),
        marked_twice=max(count(_TWICE), count(_TOLD_TWICE)),
        unmarked=count(_UNMARKED),
        untold=count(_UNTOLD),
        ledger_differs=_differences(ledger, commits),
        takeovers_s=tuple(value for (value,) in connection.execute(_TAKEOVERS.encode())),
    )


def _differences(ledger: Sequence[int], commits: dict[int, int]) -> int:
    return len(set(ledger) ^ commits.keys()) + len(ledger) - len(set(ledger))
