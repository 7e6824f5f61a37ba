"""One request sent 200 times at once to four processes, some of which are killed at it."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil
import psycopg
import requests

from tests.multi.caller import Caller
from tests.multi.conftest import Env
from tests.support.processes import Gunicorn
from tests.support.waiting import eventually

SENT, PROCESSES, KILLS = 200, 4, 2
AGAIN = (409, 503)  # the first is still running, or no connection was free in time
KEY = {"Idempotency-Key": "one-and-the-same"}

Answers = Sequence[Future[requests.Response]]


class Trial:
    """Requests that are each sent again until they are answered, and processes that die at them."""

    def __init__(self, web: Gunicorn, database_url: str) -> None:
        self._master = psutil.Process(web.pid)
        self._caller = Caller.register(web.base_url)
        self._project = self._caller.made("/projects", {"name": "P"})["id"]
        self._database_url = database_url
        self._pause = threading.Event()
        self.cut_off: list[str] = []

    def run(self, sent: int, kills: int) -> list[tuple[Any, ...]]:
        """What each was answered. The first processes die while a request has the key."""
        with ThreadPoolExecutor(sent) as pool:
            with self._held_project() as somebody_waits:
                answers = [pool.submit(self._send) for _ in range(sent)]
                eventually(somebody_waits, what="a request that waits for the project")
                self._kill(min(kills, PROCESSES // 2))
            for _ in range(kills):
                some_more(answers)
                self._kill(1)
            return [told(each.result(120)) for each in answers]

    def tasks(self) -> int:
        page = self._caller.get(f"/projects/{self._project}/tasks?limit=200")
        return len(page.json()["items"])

    def _send(self) -> requests.Response:
        body = {"title": "Once"}
        while True:
            try:
                answer = self._caller.post(f"/projects/{self._project}/tasks", body, KEY)
                if answer.status_code not in AGAIN:
                    return answer
            except requests.RequestException as error:
                self.cut_off.append(str(error))
            self._pause.wait(0.02)

    def _kill(self, count: int) -> None:
        for worker in random.sample(self._master.children(), count):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    @contextlib.contextmanager
    def _held_project(self) -> Iterator[Callable[[], bool]]:
        """Nobody can make a task in it within the block; tells whether somebody tries to."""
        with psycopg.connect(self._database_url) as held:
            held.execute("SELECT 1 FROM projects WHERE id = %s FOR UPDATE", [self._project])
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            yield lambda: bool(held.execute(waiting).fetchone()[0])  # type: ignore[index]


def told(answer: requests.Response) -> tuple[Any, ...]:
    return (answer.status_code, answer.content, *map(answer.headers.get, ("Location", "ETag")))


def some_more(answers: Answers) -> None:
    """Wait until another request is answered, if one is left."""
    before = sum(each.done() for each in answers)
    eventually(
        lambda: sum(each.done() for each in answers) > min(before, len(answers) - 1),
        timeout_s=60,
        what="another answer",
    )


def test_200_at_once_with_one_key_make_one_row_and_get_one_answer_whoever_dies(
    start_gunicorn: Callable[..., Gunicorn], shared_env: Env
) -> None:
    web = start_gunicorn(shared_env, workers=PROCESSES)
    trial = Trial(web, shared_env["DATABASE_URL"])
    answers = trial.run(SENT, KILLS)
    assert len(answers) == SENT
    assert len(set(answers)) == 1
    assert answers[0][0] == 201
    assert trial.tasks() == 1
    assert trial.cut_off


def test_without_the_unique_row_they_make_several(
    start_gunicorn: Callable[..., Gunicorn], shared_env: Env
) -> None:
    """The same trial with the protection taken out."""
    web = start_gunicorn(shared_env, workers=1)
    with psycopg.connect(shared_env["DATABASE_URL"]) as database:
        database.execute(
            "ALTER TABLE idempotency_keys DROP CONSTRAINT uq_idempotency_keys_account_id"
        )
    trial = Trial(web, shared_env["DATABASE_URL"])
    answers = trial.run(20, kills=0)
    assert len(set(answers)) == 20
    assert trial.tasks() == 20
