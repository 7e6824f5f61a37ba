"""Every process looks after the outbox: a scheduler too, which answers no request."""

from __future__ import annotations

from collections.abc import Callable

from app.db import invalidations
from tests.services.cache_site import age, outbox
from tests.support.database import opened
from tests.support.processes import SchedulerProcess
from tests.support.waiting import eventually


def test_a_scheduler_tells_what_a_dead_writer_did_not(
    shared_env: dict[str, str], start_scheduler: Callable[..., SchedulerProcess]
) -> None:
    with opened(shared_env["DATABASE_URL"]) as db:
        with db.write() as session:
            invalidations.record(session, ["project:1"], ["lists"])
        age(db)
        start_scheduler(shared_env)
        eventually(lambda: outbox(db) != [None], timeout_s=20, what="the record to be told")
