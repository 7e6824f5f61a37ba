"""`flask cron`: what operators type, on a real database and a real Valkey."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
from click.testing import Result
from flask_openapi import OpenAPI
from sqlalchemy import update
from structlog.testing import capture_logs

from app.db import cron, cron_ledger, migrate
from app.db.models import CronJob, CronRun
from app.services.sweep import SweepService
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of

LATE = {"due_at": "2024-01-01T00:00:00Z"}


def run(app: OpenAPI, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=["cron", *args])


def said(app: OpenAPI, *args: str) -> dict[str, Any]:
    """What a command answers with `--json`."""
    done = run(app, *args, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def job_of(app: OpenAPI) -> dict[str, Any]:
    (job,) = said(app, "list")["jobs"]
    assert isinstance(job, dict)
    return job


def add_late_tasks(person: Person, count: int) -> None:
    project = json_of(person.post("/projects", {"name": "House"}))["id"]
    for number in range(count):
        person.post(f"/projects/{project}/tasks", {"title": f"T{number}", **LATE})


def test_list_shows_a_job_that_never_ran(app: OpenAPI) -> None:
    job = job_of(app)
    assert (job["job"], job["schedule"], job["missed"]) == ("overdue", "every 3600 s", "latest")
    assert (job["paused"], job["holder"], job["last"], job["fence"]) == (False, None, None, 0)
    assert job["next"].endswith(":00:00Z")
    assert run(app, "list").output.strip().endswith("never run")


def test_a_run_by_hand_is_in_the_list_and_in_the_history(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    add_late_tasks(ann, 3)
    assert said(any_app, "run", "overdue") == {
        "job": "overdue",
        "outcome": "succeeded",
        "rows": 3,
    }
    (entry,) = said(any_app, "history", "overdue")["runs"]
    assert (entry["attempt"], entry["fence"], entry["outcome"]) == (1, 1, "succeeded")
    assert (entry["rows"], entry["total"], entry["left_s"]) == (3, 3, None)
    assert entry["slot"].endswith(":00:00Z")
    assert job_of(any_app)["last"] == entry
    assert "succeeded  3 of 3 rows" in run(any_app, "history", "overdue").output


def test_a_second_run_by_hand_is_an_extra_slot(app: OpenAPI, ann: Person) -> None:
    said(app, "run", "overdue")
    add_late_tasks(ann, 1)
    assert run(app, "run", "overdue").stdout == "overdue: succeeded, 1 rows\n"
    newest, first = said(app, "history", "overdue")["runs"]
    assert newest["slot"] > first["slot"]
    assert len(said(app, "history", "overdue", "--limit", "1")["runs"]) == 1


def test_a_run_by_hand_is_refused_while_another_holds_the_fence(app: OpenAPI) -> None:
    parts = app.extensions["taskflow"]
    said(app, "run", "overdue")
    with parts.db.write() as session:
        slot = cron.seen(session, job="overdue").slot
        assert cron.mint_fence(session, job="overdue", slot=slot, holder="web-1:7:a", ttl_ms=9_000)
    refused = run(app, "run", "overdue")
    assert refused.stdout == "overdue: taken, 0 rows\n"
    assert refused.exit_code == 1
    job = job_of(app)
    assert (job["holder"], job["fence"]) == ("web-1:7:a", 2)
    assert 0 < job["lease_left_ms"] <= 9_000
    assert "running on web-1:7:a" in run(app, "list").output


def test_pause_holds_a_job_back_until_it_is_resumed(app: OpenAPI) -> None:
    with capture_logs() as logs:
        assert said(app, "pause", "overdue") == {"job": "overdue", "paused": True}
    assert [line["event"] for line in logs] == ["cron.paused"]
    assert job_of(app)["paused"] is True
    assert ", paused;" in run(app, "list").output
    refused = run(app, "run", "overdue")
    assert refused.output == "Error: overdue is paused: flask cron resume overdue\n"
    assert refused.exit_code == 1
    assert run(app, "resume", "overdue").output == "overdue: resumed\n"
    assert said(app, "run", "overdue")["outcome"] == "succeeded"


def test_ctrl_c_stops_a_run_between_two_batches(
    app: OpenAPI, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_late_tasks(ann, 3)
    marks = SweepService.run_batch

    def interrupted(self: SweepService, *args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return marks(self, *args, **{**options, "limit": 1})

    monkeypatch.setattr(SweepService, "run_batch", interrupted)
    stopped = run(app, "run", "overdue")
    assert stopped.stdout == "overdue: stopped, 1 rows\n"
    assert stopped.exit_code == 1
    monkeypatch.undo()
    assert said(app, "run", "overdue")["rows"] == 2
    second, first = said(app, "history", "overdue")["runs"]
    assert (first["outcome"], second["outcome"]) == ("stopped", "succeeded")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_job_that_does_not_exist_is_one_line_that_names_those_that_do(app: OpenAPI) -> None:
    for command in ("run", "history", "pause", "resume"):
        refused = run(app, command, "overdu")
        assert refused.exit_code == 2
        assert refused.output.splitlines()[-1] == ("Error: Invalid value for JOB: there is overdue")


HOLDER, MINUTE_MS = "web-1:7:a", 60_000


def begin_a_run(parts: Any) -> None:
    """A run by another process that has done 500 rows of 1,000 and goes on."""
    slot = int(_now(parts))
    with parts.db.write() as session:
        fence = cron.mint_fence(session, job="overdue", slot=slot, holder=HOLDER, ttl_ms=MINUTE_MS)
        assert fence == 1
        cron_ledger.open_run(session, job="overdue", slot=slot, fence=fence, instance=HOLDER)
    with parts.db.write() as session:
        cron_ledger.heartbeat(session, job="overdue", slot=slot, fence=fence, rows=500, total=1_000)


def test_a_run_that_is_going_on_shows_its_progress(any_app: OpenAPI) -> None:
    begin_a_run(any_app.extensions["taskflow"])
    (entry,) = said(any_app, "history", "overdue")["runs"]
    assert (entry["outcome"], entry["rows"], entry["total"]) == (None, 500, 1_000)
    assert entry["left_s"] is None or entry["left_s"] >= 0
    assert "running  500 of 1000 rows" in run(any_app, "history", "overdue").output


@pytest.mark.parametrize("died", [{"lease_until": 1}, {"fence": 2}], ids=["silent", "overtaken"])
def test_a_run_whose_scheduler_died_is_shown_as_interrupted(
    any_app: OpenAPI, died: dict[str, int]
) -> None:
    parts = any_app.extensions["taskflow"]
    begin_a_run(parts)
    with parts.db.write() as session:
        session.execute(update(CronJob).values(died))
    (entry,) = said(any_app, "history", "overdue")["runs"]
    assert (entry["outcome"], entry["rows"], entry["left_s"]) == ("interrupted", 500, None)
    assert job_of(any_app)["last"] == entry
    for command in (("history", "overdue"), ("list",)):
        shown = run(any_app, *command).output
        assert "interrupted  500 of 1000 rows" in shown
        assert " left" not in shown


def test_a_job_that_is_ahead_of_the_databases_clock_is_shown_and_set_back_by_a_run_by_hand(
    any_app: OpenAPI,
) -> None:
    parts = any_app.extensions["taskflow"]
    assert job_of(any_app)["slot_ahead"] is None
    said(any_app, "run", "overdue")
    with parts.db.write() as session:
        session.execute(update(CronJob).values(slot=4_102_444_800))
        session.execute(update(CronRun).values(slot=4_102_444_800))
    assert job_of(any_app)["slot_ahead"] == "2100-01-01T00:00:00Z"
    told = "its newest slot 2100-01-01T00:00:00Z lies in the database's future"
    assert told in run(any_app, "list").output
    assert said(any_app, "run", "overdue")["outcome"] == "succeeded"
    job = job_of(any_app)
    assert job["slot_ahead"] is None
    assert job["last"]["slot"] < job["next"]


def _now(parts: Any) -> float:
    with parts.db.read() as session:
        return cron.seen(session, job="overdue").now_s


def test_a_pause_says_whose_batch_it_waited_for_in_vain_and_changes_nothing(
    make_app: MakeApp, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.upgrade(postgres_url)
    app = make_app(DATABASE_URL=postgres_url)
    parts = app.extensions["taskflow"]
    begin_a_run(parts)
    monkeypatch.setattr(cron, "MOST_LOCK_WAIT_MS", 50)
    with parts.db.write() as batch:
        cron.renew(batch, job="overdue", fence=1, ttl_ms=10 * MINUTE_MS)
        for command in ("pause", "resume"):
            refused = run(app, command, "overdue")
            assert refused.exit_code == 1
            assert refused.output.splitlines() == [
                f"Error: Nothing was changed: overdue is in the middle of a batch on {HOLDER}. "
                f"Try again; if that process hangs, end it."
            ]
    assert said(app, "pause", "overdue") == {"job": "overdue", "paused": True}
