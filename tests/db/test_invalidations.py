"""The outbox: each history of writes has its own "told", and no more of them than are kept."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.db import invalidations
from app.db.engine import Database

HISTORIES = [character * 40 for character in "abcdef"]  # a replication id has 40


def pending(database: Database, history: str) -> int:
    with database.read() as session:
        found = invalidations.pending(
            session, history=history, least_age_ms=0, most_age_ms=60_000, limit=10
        )
    return len(found)


@pytest.fixture
def row(database: Database) -> UUID:
    with database.write() as session:
        return invalidations.record(session, ["project:1"], ["lists"])


def tell(database: Database, row: UUID, *histories: str) -> None:
    for history in histories:
        with database.write() as session:
            invalidations.mark_told(session, [row], history=history)


def test_what_one_history_was_told_another_has_pending(database: Database, row: UUID) -> None:
    assert [pending(database, each) for each in HISTORIES[:2]] == [1, 1]
    tell(database, row, HISTORIES[0])
    assert [pending(database, each) for each in HISTORIES[:2]] == [0, 1]


@pytest.mark.parametrize("times", [1, 3])
def test_who_was_told_stays_told_when_others_are(database: Database, row: UUID, times: int) -> None:
    tell(database, row, *HISTORIES[:2] * times)
    assert [pending(database, each) for each in HISTORIES[:3]] == [0, 0, 1]


def test_the_last_four_are_kept_and_one_told_before_them_is_told_again(
    database: Database, row: UUID
) -> None:
    tell(database, row, *HISTORIES)
    assert [pending(database, each) for each in HISTORIES] == [1, 1, 0, 0, 0, 0]


def test_told_again_a_history_takes_no_second_place(database: Database, row: UUID) -> None:
    tell(database, row, *HISTORIES[:4], *[HISTORIES[3]] * 3)
    assert [pending(database, each) for each in HISTORIES] == [0, 0, 0, 0, 1, 1]
