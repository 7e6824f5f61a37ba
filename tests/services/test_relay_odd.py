"""What ought not to happen to the outbox or the cache must not shut every process's gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update

from app.coordination import keys
from app.db import invalidations
from app.db.models import Invalidation
from tests.services.cache_site import HOME, Site, age, outbox, record
from tests.support.redis_servers import Valkey


@pytest.mark.parametrize("wrong", ["meta", "tags"])
def test_a_namespace_with_a_key_of_a_wrong_type_is_begun_anew_and_the_gate_opens(
    site: Site, valkey: Valkey, wrong: str
) -> None:
    site.read(0)
    name = getattr(keys.cache(HOME, ""), wrong)
    with valkey.client() as raw:
        raw.delete(name)
        raw.set(name, "not ours")
    record(site.db)
    age(site.db)
    assert site.relay.look()
    assert (site.read(1), outbox(site.db)) == (1, [site.cache.history()])


# --- the database's clock -------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_ms", [500, 60_000])
def test_a_dead_writers_record_of_the_future_is_told(site: Site, ahead_ms: int) -> None:
    """The database's clock was set back since, or a standby with a slower one was promoted."""
    site.read(0)
    record(site.db)
    age(site.db, -ahead_ms)
    with site.db.read() as session:
        assert invalidations.untold(session, least_age_ms=1_000) == (1, 0)
    assert site.relay.look()
    assert (site.read(1), outbox(site.db)) == (1, [site.cache.history()])


# --- two histories at once ------------------------------------------------------------------------


def test_two_servers_that_are_read_at_once_are_told_once_each(
    site: Site, make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    """A split that lasts, or a `REDIS_URL` that is changed one process at a time."""
    with Valkey.start(tmp_path / "other") as other:
        there = make_site(other.url)
        record(site.db, 3)
        age(site.db)
        for _ in range(3):
            assert site.relay.look()
            assert there.relay.look()
        assert (site.told(), there.told()) == (1, 1)
        site.change()
        site.relay.settle()
        age(site.db)
        for _ in range(3):
            assert there.relay.look()
            assert site.relay.look()
        assert (site.told(), there.told()) == (2, 2)


def test_they_would_tell_it_again_at_each_look_if_only_the_last_one_told_were_known(
    site: Site, make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    """The control."""
    with Valkey.start(tmp_path / "other") as other:
        there = make_site(other.url)
        record(site.db)
        age(site.db)
        for each in (site, there) * 3:
            each.relay.look()
            forget_who_was_told_before(site)
        assert (site.told(), there.told()) == (3, 3)


def forget_who_was_told_before(site: Site) -> None:
    with site.db.write() as session:
        session.execute(update(Invalidation).values(told_before=None))
