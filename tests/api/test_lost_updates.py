"""Fifty writers of one task at once, at two processes' parts over one PostgreSQL: none is lost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from flask_openapi import OpenAPI

from app.db import migrate
from app.services.tasks import TaskService
from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.redis_servers import Valkey

WRITERS = 50
ROOMY = "1000000/minute"


class Writers:
    """Everybody reads the task, and then adds a line of one's own to what was read."""

    def __init__(self, apps: list[OpenAPI]) -> None:
        self.ann = Person(apps[0], "ann")
        task = self.ann.task(self.ann.project(), description="")
        self.path = f"/tasks/{task['id']}"
        self.first: list[int] = []
        self.won: Counter[int] = Counter()
        self._all_have_read = threading.Barrier(WRITERS)
        self._threads = [
            threading.Thread(target=self._write, args=(self.ann.at(apps[number % 2]), number))
            for number in range(WRITERS)
        ]

    def write(self) -> dict[str, Any]:
        """The task, once everybody was told that the line is in it."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(120)
        return dict(json_of(self.ann.get(self.path)))

    def _write(self, person: Person, number: int) -> None:
        task = json_of(person.get(self.path))
        self._all_have_read.wait(60)
        status = self._add(person, task, number)
        self.first.append(status)
        while status == 412:
            status = self._add(person, json_of(person.get(self.path)), number)
        assert status == 200

    def _add(self, person: Person, task: dict[str, Any], number: int) -> int:
        lines = f"{task['description']}{number}\n"
        answer = person.patch(self.path, {"description": lines}, version=task["version"])
        if answer.status_code == 200:
            self.won[json_of(answer)["version"]] += 1
        return answer.status_code


@pytest.fixture
def writers(make_app: MakeApp, postgres_url: str, valkey: Valkey) -> Writers:
    migrate.upgrade(postgres_url)
    env = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": valkey.url,
        "DB_POOL_SIZE": "10",
        "DB_POOL_TIMEOUT": "30000",
        "RATE_LIMIT_READS": ROOMY,
        "RATE_LIMIT_WRITES": ROOMY,
    }
    return Writers([make_app(**env), make_app(**env)])


def test_of_fifty_patches_at_once_one_wins_each_version_and_none_is_lost(
    writers: Writers,
) -> None:
    task = writers.write()
    assert Counter(writers.first) == {200: 1, 412: WRITERS - 1}
    assert task["version"] == WRITERS + 1
    assert writers.won == dict.fromkeys(range(2, WRITERS + 2), 1)
    assert sorted(map(int, task["description"].split())) == list(range(WRITERS))
    changes = json_of(writers.ann.get(f"{writers.path}/history?limit=200"))["items"]
    assert [change["version"] for change in changes] == list(range(WRITERS + 1, 0, -1))
    # Each began from what the one before it had made.
    steps = [change["changes"][0] for change in changes[:-1]]
    assert [step["from"] for step in steps] == [*(step["to"] for step in steps[1:]), ""]


def test_if_the_version_were_not_looked_at_most_would_be_lost(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    held = TaskService._held

    def unchecked(self: TaskService, session: Any, actor: Any, task_id: Any, _version: Any) -> Any:
        return held(self, session, actor, task_id, None)

    monkeypatch.setattr(TaskService, "_held", unchecked)
    task = writers.write()
    assert Counter(writers.first) == {200: WRITERS}
    assert len(task["description"].split()) == 1
