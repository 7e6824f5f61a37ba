"""A change and the record of what it makes stale are one, and Redis hears it before the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.coordination.gate import Gate
from app.coordination.memory_cache import MemoryCache
from app.coordination.scripts import Call
from app.coordination.stale import Stale
from app.db.engine import Database
from app.db.models import Account, Invalidation
from app.db.types import new_id
from app.errors import PreconditionFailed
from app.services.changes import Changes, Note, Revealing
from tests.services.cache_site import HOME, TASKS, Site, outbox
from tests.support.database import rows_in
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey


def renamed(name: str) -> Callable[[Session], None]:
    def unit(session: Session) -> None:
        session.scalars(select(Account)).first().name = name  # type: ignore[union-attr]
        session.flush()

    return unit


class Hashed(str):
    """A name that counts how often one of its kind is looked up."""

    __slots__ = ()
    times = 0

    def __hash__(self) -> int:
        Hashed.times += 1
        return super().__hash__()


def test_the_record_is_committed_with_its_change(site: Site) -> None:
    site.changes.commit(renamed("new"), lambda _: Stale((HOME, "account:1"), ("tasks", "lists")))
    with site.db.read() as session:
        row = session.scalars(select(Invalidation)).one()
        assert (row.namespaces, row.tags, row.told) == (
            [HOME, "account:1"],
            ["tasks", "lists"],
            None,
        )


def test_a_change_that_is_undone_leaves_no_record_and_tells_nobody(site: Site) -> None:
    def fails(_: object) -> Stale:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.changes.commit(renamed("new"), fails)
    assert (outbox(site.db), site.told()) == ([], 0)


def test_nobody_sees_the_record_before_its_change(site: Site) -> None:
    with site.db.write() as session:
        site.changes.record(session, TASKS)
        session.flush()
        assert rows_in(site.db, Invalidation) == 0
    assert rows_in(site.db, Invalidation) == 1


@pytest.mark.parametrize("stale", [None, Stale((), ("tasks",))])
def test_a_change_of_nothing_cached_is_not_recorded(site: Site, stale: Stale | None) -> None:
    site.changes.commit(renamed("new"), lambda _: stale)
    assert (outbox(site.db), site.told()) == ([], 0)


def test_redis_has_heard_it_before_the_answer(
    site: Site, make_site: Callable[[str], Site], valkey: Valkey
) -> None:
    reader = make_site(valkey.url).ready()
    assert reader.read(0) == 0
    site.change()
    assert reader.read(1) == 1


def test_unheard_it_shuts_the_writers_gate_and_stays_in_the_outbox(
    make_site: Callable[[str], Site], valkey: Valkey, valkey_proxy: Proxy
) -> None:
    writer, reader = make_site(valkey_proxy.url).ready(), make_site(valkey.url).ready()
    reader.read(0)
    valkey_proxy.cut()
    writer.change()
    assert (writer.gate.is_open, reader.gate.is_open) == (False, True)
    assert outbox(writer.db) == [None]
    assert (writer.read(1), reader.read(1)) == (1, 0)  # the reader's end is the relay's matter


def test_what_was_heard_is_handed_out_once(site: Site) -> None:
    site.change()
    site.change()
    history = site.cache.history()
    assert [history for _, history in site.changes.take_told()] == [history] * 2
    assert site.changes.take_told() == []


def test_what_could_not_be_marked_is_handed_out_again(site: Site) -> None:
    site.change()
    told = site.changes.take_told()
    site.change()
    site.changes.give_back_told(told)
    assert len(site.changes.take_told()) == 2


def test_changes_with_the_same_tags_are_told_as_one_and_each_is_told(site: Site) -> None:
    notes = [Note(new_id(), Stale((f"project:{each % 3}",), ("tasks",))) for each in range(9)]
    site.changes.tell([*notes, Note(new_id(), Stale(("project:1",), ("people",)))])
    assert site.told() == 4
    assert len(site.changes.take_told()) == 10


def test_each_of_many_projects_is_looked_up_as_often_as_one_alone(site: Site) -> None:
    def lookups(projects: int) -> int:
        before = Hashed.times
        site.cache.invalidate(
            [Stale(tuple(Hashed(f"project:{n}") for n in range(projects)), ("t",))]
        )
        return Hashed.times - before

    assert lookups(300) == 300 * lookups(1)


def test_a_change_that_two_histories_have_in_part_is_not_told(
    make_site: Callable[[str], Site],
    valkey: Valkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the first hundred namespaces the primary's name came to mean another server."""
    with Valkey.start(tmp_path / "other") as other:
        here, there = make_site(valkey.url), make_site(other.url)
        clients = iter([here._client, there._client])

        def told_by(calls: Sequence[Call]) -> list[object]:
            return sent[next(clients)](calls)

        sent = {each._client: each._client.call_many for each in (here, there)}
        monkeypatch.setattr(here._client, "call_many", told_by)
        change = Stale(tuple(f"project:{each}" for each in range(150)), ("tasks",))
        assert here.cache.invalidate([change]) == {change: None}


def test_without_a_shared_cache_nothing_is_recorded(db: Database) -> None:
    changes = Changes(db, MemoryCache(), Gate())
    changes.commit(renamed("new"), lambda _: TASKS)
    assert (outbox(db), changes.take_told()) == ([], [])


class Watched(Site):
    """Notes whether the database could be written whenever its cache is told something."""

    def __init__(self, db: Database, url: str) -> None:
        super().__init__(db, url)
        self.could_write: list[bool] = []
        self._tell = self.cache._client.call_many
        self.cache._client.call_many = self._told  # type: ignore[method-assign]

    def _told(self, calls: Sequence[Call]) -> list[object]:
        with ThreadPoolExecutor(1) as pool:
            self.could_write.append(pool.submit(self._write).result())
        return self._tell(calls)

    def _write(self) -> bool:
        try:
            with self.db.engine.connect() as connection:
                connection.exec_driver_sql(
                    "PRAGMA busy_timeout = 0"
                    if self.db.dialect == "sqlite"
                    else "SET lock_timeout = '50ms'"
                )
                connection.execute(update(Account).values(name="told"))
        except DBAPIError:
            return False
        return True


def revealed(session: Session) -> None:
    renamed("new")(session)
    raise Revealing(PreconditionFailed("changed meanwhile"), TASKS)


def test_what_an_answer_reveals_is_told_and_not_recorded(site: Site) -> None:
    site.read(0)
    with pytest.raises(PreconditionFailed, match="changed meanwhile"):
        site.changes.commit(revealed, lambda _: TASKS)
    assert (site.read(1), outbox(site.db)) == (1, [])


def test_what_an_answer_reveals_is_told_when_its_unit_has_ended(
    db: Database, valkey: Valkey
) -> None:
    site = Watched(db, valkey.url).ready()
    site.could_write.clear()
    with pytest.raises(PreconditionFailed):
        site.changes.commit(revealed, lambda _: TASKS)
    assert site.could_write == [True]
    with db.write() as session:  # the control
        renamed("new")(session)
        site.cache.invalidate([TASKS])
    assert site.could_write == [True, False]
    site.close()


def test_what_an_answer_reveals_and_nobody_hears_shuts_the_gate(
    make_site: Callable[[str], Site], valkey_proxy: Proxy
) -> None:
    site = make_site(valkey_proxy.url).ready()
    valkey_proxy.cut()
    with pytest.raises(PreconditionFailed):
        site.changes.commit(revealed, lambda _: TASKS)
    assert not site.gate.is_open
