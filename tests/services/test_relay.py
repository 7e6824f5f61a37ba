"""What the outbox holds is told to Redis by whoever comes by; only then is the cache believed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.coordination.stale import Stale
from app.db import invalidations
from app.db.engine import Database
from app.errors import CoordinationError, DatabaseUnavailable
from tests.services.cache_site import HOME, TASKS, Site, age, outbox, record
from tests.services.conftest import World
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

MakeSite = Callable[[str], Site]


@pytest.fixture
def cut_off(make_site: MakeSite, site: Site, valkey_proxy: Proxy) -> Site:
    """A writer that `site` has an old value of: its change was committed and nobody told Redis."""
    writer = make_site(valkey_proxy.url).ready()
    assert site.read(0) == 0
    valkey_proxy.cut()
    writer.change()
    return writer


# --- whose record it is ---------------------------------------------------------------------------


@pytest.mark.usefixtures("cut_off")
def test_what_a_writer_could_not_tell_another_process_tells(site: Site) -> None:
    age(site.db)
    assert site.read(1) == 0  # the control: nobody has told it yet
    assert site.relay.look()
    assert (site.read(1), outbox(site.db)) == (1, [site.cache.history()])


def test_what_a_dead_writer_did_not_tell_is_told(site: Site) -> None:
    site.read(0)
    record(site.db)
    age(site.db)
    assert site.relay.look()
    assert (site.read(1), site.gate.is_open) == (1, True)


@pytest.mark.usefixtures("cut_off")
def test_a_record_of_the_last_second_is_left_to_its_writer(site: Site) -> None:
    assert site.relay.look()
    assert (site.told(), outbox(site.db), site.gate.is_open) == (0, [None], True)


def test_a_writer_finds_its_own_record_as_anybody_does_and_believes_nothing_until_then(
    site: Site, cut_off: Site, valkey_proxy: Proxy
) -> None:
    with pytest.raises(CoordinationError):
        cut_off.relay.look()
    assert not cut_off.gate.is_open
    valkey_proxy.restore()
    cut_off._client.breaker.succeeded()
    assert cut_off.relay.look()
    assert not cut_off.gate.is_open  # the record is its writer's for a second
    looks_until_open(cut_off)
    assert site.read(1) == 1
    assert outbox(site.db) == [site.cache.history()]


def looks_until_open(site: Site) -> None:
    eventually(lambda: site.relay.look() and site.gate.is_open, what="the gate to open")


def test_told_records_are_not_told_again(site: Site, make_site: MakeSite, valkey: Valkey) -> None:
    other = make_site(valkey.url)
    site.change()
    record(site.db)
    age(site.db)
    for _ in range(3):
        assert site.relay.look()
        assert other.relay.look()
    assert (site.told(), other.told()) == (2, 0)


def test_a_writers_record_is_told_twice_where_nobody_marked_it(
    site: Site, make_site: MakeSite, valkey: Valkey
) -> None:
    """The control of the test above."""
    site.change()
    age(site.db)
    other = make_site(valkey.url).ready()
    assert other.told() == 1


def test_more_records_than_a_page_are_all_told_before_the_gate_opens(site: Site) -> None:
    record(site.db, 1_203)
    age(site.db)
    site.gate.shut()
    looks_until_open(site)
    assert set(outbox(site.db)) == {site.cache.history()}
    assert site.told() == 3  # equal ones of a page are one


def test_a_change_that_was_committed_long_after_its_record_was_written_is_found(
    site: Site,
) -> None:
    site.read(0)
    with site.db.write() as session:
        note = site.changes.record(session, TASKS)
        assert note is not None
        session.flush()
        assert site.relay.look()
        assert outbox(site.db) == []
    age(site.db, 60_000)
    assert site.relay.look()
    assert (site.read(1), outbox(site.db)) == (1, [site.cache.history()])


def test_one_committed_after_later_ones_were_told_is_found(
    postgres_world: World, valkey: Valkey
) -> None:
    """On SQLite there are no two writers."""
    with ExitStack() as stack:
        site = Site(postgres_world.db, valkey.url).ready()
        stack.callback(site.close)
        with site.db.write() as late:
            invalidations.record(late, TASKS.namespaces, TASKS.tags)
            late.flush()
            site.change()
            age(site.db)
            assert site.relay.look()
            assert outbox(site.db) == [site.cache.history()]
        age(site.db)
        assert site.relay.look()
        assert (outbox(site.db), site.told()) == ([site.cache.history()] * 2, 2)


# --- another history ------------------------------------------------------------------------------


def test_a_restarted_redis_is_told_again(site: Site, valkey: Valkey) -> None:
    record(site.db)
    age(site.db)
    site.ready()
    before = outbox(site.db)
    valkey.restart()
    site.ready()
    assert site.told() == 2
    assert outbox(site.db) == [site.cache.history()] != before


def test_a_primary_that_others_still_read_is_told_what_the_new_one_was(
    site: Site, make_site: MakeSite, valkey: Valkey, tmp_path: Path
) -> None:
    """A split: a replica was promoted, and the writer tells the other of the two."""
    with Valkey.start(tmp_path / "replica") as replica, replica.client() as raw:
        raw.replicaof("127.0.0.1", str(valkey.port))
        eventually(
            lambda: raw.info("replication")["master_link_status"] == "up", what="the replica"
        )
        raw.replicaof("NO", "ONE")
        there = make_site(replica.url).ready()
        assert there.read(0) == 0
        site.change()
        age(site.db)
        assert site.relay.look()
        assert there.read(1) == 0  # the control: told, but not there
        assert there.relay.look()
        assert there.read(1) == 1
        assert outbox(site.db) == [there.cache.history()]


# --- the gate -------------------------------------------------------------------------------------


def test_without_redis_the_gate_shuts_after_four_seconds(
    make_site: MakeSite, valkey_proxy: Proxy
) -> None:
    site = make_site(valkey_proxy.url).ready()
    valkey_proxy.cut()
    assert site.relay._turn() is not None
    assert (site.gate.is_open, site.gate.age_s is not None) == (True, True)
    site.ahead_s = 4.0
    assert not site.gate.is_open


def test_without_the_database_the_gate_shuts_after_four_seconds(site: Site, away: Database) -> None:
    site.relay._db = away
    with pytest.raises(DatabaseUnavailable):
        site.relay.look()
    assert site.gate.is_open
    site.ahead_s = 4.0
    assert not site.gate.is_open
    site.relay._db = site.db
    site.ahead_s = 0.0
    assert site.relay.look()
    assert site.gate.is_open


def test_a_look_that_is_not_complete_does_not_open_the_gate(site: Site, valkey: Valkey) -> None:
    record(site.db)
    age(site.db)
    site.gate.shut()
    with valkey.client() as raw:
        raw.config_set("min-replicas-to-write", 1)
        assert not site.relay.look()
        assert (site.gate.is_open, outbox(site.db)) == (False, [None])
        raw.config_set("min-replicas-to-write", 0)
    looks_until_open(site)


def test_whatever_goes_wrong_it_looks_again(site: Site) -> None:
    site.relay._db = None  # type: ignore[assignment]
    with capture_logs() as logs:
        assert site.relay._turn() is not None
    assert [log["event"] for log in logs] == ["relay.failed"]


def test_begun_it_looks_by_itself(make_site: MakeSite, valkey: Valkey) -> None:
    site = make_site(valkey.url)
    record(site.db)
    age(site.db)
    for _ in range(2):
        site.relay.begin()
    eventually(lambda: site.gate.is_open, what="the first look")
    assert outbox(site.db) == [site.cache.history()]
    site.relay.close()


def test_the_cache_is_not_believed_before_the_first_look(
    make_site: MakeSite, valkey: Valkey
) -> None:
    site = make_site(valkey.url)
    assert (site.read(0), site.metrics.cache.labels("gated_database")._value.get()) == (0, 1)
    with valkey.client() as raw:
        assert [key for key in raw.scan_iter() if HOME in key] == []


def test_records_of_the_same_projects_are_told_once_however_many_there_are(site: Site) -> None:
    """As a sweep's batches leave them, each with a part of the same projects."""
    projects = [f"project:{number}" for number in range(6)]
    with site.db.write() as session:
        for number in range(6):
            rest = (*projects[:number], *projects[number + 1 :])
            site.changes.record(session, Stale(rest, ("tasks",)))
    age(site.db)
    assert site.relay.look()
    assert (site.told(), outbox(site.db)) == (6, [site.cache.history()] * 6)
