"""How a relay ends, and what becomes of the outbox."""

from __future__ import annotations

from app.db.engine import Database
from tests.services.cache_site import ENTRY_TTL_S, Site, age, outbox, record


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


def test_records_are_deleted_when_no_entry_can_be_older_and_untold_ones_never(site: Site) -> None:
    site.change()
    site.ready()
    record(site.db)
    age(site.db, ENTRY_TTL_S * 1_000 + 59_000)
    purge(site)
    assert len(outbox(site.db)) == 2
    age(site.db, 1_500)
    purge(site)
    assert outbox(site.db) == [None]


def test_a_minutes_records_of_a_busy_day_are_deleted_as_fast_as_they_come(site: Site) -> None:
    """More than one statement deletes: it goes on a second later, and not a minute."""
    record(site.db, 5_200)
    age(site.db)
    site.ready()
    age(site.db, ENTRY_TTL_S * 1_000 + 60_000)
    purge(site)
    assert len(outbox(site.db)) == 200
    site.relay._purge()
    assert outbox(site.db) == []
    record(site.db)
    site.relay._purge()  # not before a minute has passed
    assert outbox(site.db) == [None]


def purge(site: Site) -> None:
    site.relay._purged_at -= 60.0
    site.relay._purge()
