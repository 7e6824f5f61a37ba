"""How a relay ends, and what becomes of the outbox."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from app.db.engine import Database
from tests.services.cache_site import ENTRY_TTL_S, Site, age, age_of_writers, outbox, record

KEPT_MS = ENTRY_TTL_S * 1_000 + 120_000


def test_closing_marks_what_was_told_and_looks_no_more(site: Site) -> None:
    site.change()
    assert outbox(site.db) == [None]
    site.relay.close()
    assert outbox(site.db) == [site.cache.history()]
    assert site.relay._turn() is None


def test_closing_without_the_database_is_no_error_and_loses_nothing(
    site: Site, away: Database
) -> None:
    site.change()
    site.relay._db = away
    site.relay.close()
    assert len(site.changes.take_told()) == 1


def test_records_are_deleted_when_no_entry_can_be_older_told_or_not(site: Site) -> None:
    site.change()
    site.ready()
    record(site.db)
    grow_old(site, KEPT_MS - 1_000)
    purge(site)
    assert outbox(site.db) == [site.cache.history(), None]
    grow_old(site, 1_500)
    purge(site)
    assert outbox(site.db) == []


def test_what_no_entry_can_be_old_enough_for_is_not_told_before_the_gate_opens(site: Site) -> None:
    record(site.db, 1_203)
    grow_old(site, KEPT_MS + 1_000)
    record(site.db)
    age(site.db)
    assert site.relay.look()
    assert (site.told(), site.gate.is_open) == (1, True)
    assert outbox(site.db) == [None] * 1_203 + [site.cache.history()]


@pytest.mark.parametrize("whose", [age, age_of_writers])
def test_a_clock_that_jumped_ahead_alone_ends_no_record(
    site: Site, whose: Callable[[Database, int], None]
) -> None:
    record(site.db)
    age(site.db)
    whose(site.db, KEPT_MS + 1_000)
    purge(site)
    assert site.relay.look()
    assert outbox(site.db) == [site.cache.history()]


def test_a_process_that_begins_deletes_at_its_first_look(site: Site) -> None:
    record(site.db)
    grow_old(site, KEPT_MS + 1_000)
    assert site.relay._turn() is not None
    assert outbox(site.db) == []


def test_a_minutes_records_of_a_busy_day_are_deleted_as_fast_as_they_come(site: Site) -> None:
    """More than one statement deletes: it goes on a second later, and not a minute."""
    record(site.db, 5_200)
    age(site.db)
    site.ready()
    grow_old(site, KEPT_MS)
    purge(site)
    assert len(outbox(site.db)) == 200
    site.relay._purge()
    assert outbox(site.db) == []
    record(site.db)
    site.relay._purge()  # not before a minute has passed
    assert outbox(site.db) == [None]


def grow_old(site: Site, ms: int) -> None:
    age(site.db, ms)
    age_of_writers(site.db, ms)


def purge(site: Site) -> None:
    site.relay._purged_at = time.monotonic() - 60.0
    site.relay._purge()
