"""Users of several processes at once, who note all that they read and write.

A task has one writer at a time, so that its versions say in which order it was written. A write
that got no answer may have been committed: its task is written no more, and read all the same.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.killed import Killed
from tests.support.read_history import Read, Write

_TIMEOUT_S = 20.0
_WRITES, _LISTS, _WATCHED = 0.2, 0.4, 0.4  # of all requests; of the reads; of the other reads
_CREATIONS, _DELETIONS = 0.2, 0.15  # of the writes
_FEWEST, _MOST = 3, 7  # tasks of a project
BROKEN = 0  # the status of a request that got no answer


@dataclass(eq=False)
class Task:
    """A task as its writers know it. `is_over`: written no more."""

    id: str
    project: str
    version: int = 1
    is_over: bool = False
    _writer: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Whether nobody else may write it, until it is left."""
        if not self._writer.acquire(blocking=False):
            return False
        if self.is_over:
            self.leave()
        return not self.is_over

    def leave(self) -> None:
        self._writer.release()


@dataclass(frozen=True, slots=True)
class Place:
    """A process, and where it listens."""

    name: str
    port: int


class Board:
    """Where users go, the tasks that they write, and some that were given up of late."""

    def __init__(self, places: Sequence[Place], projects: Sequence[str]) -> None:
        self.places, self.projects = tuple(places), tuple(projects)
        self._lock = threading.Lock()
        self._tasks: dict[str, list[Task]] = {project: [] for project in projects}
        self._gone: deque[Task] = deque(maxlen=6)
        self._watched: Task | None = None

    def add(self, task: Task) -> None:
        with self._lock:
            self._tasks[task.project].append(task)

    def remove(self, task: Task) -> None:
        """It was deleted, or nobody knows what became of it."""
        with self._lock:
            task.is_over = True
            self._tasks[task.project].remove(task)
            self._gone.append(task)

    def watch(self, task: Task) -> None:
        """Have this one read more often than others, in place of the one before."""
        self._watched = task

    def of(self, project: str) -> list[Task]:
        with self._lock:
            return list(self._tasks[project])

    def any_to_read(self, chance: random.Random) -> Task | None:
        watched = self._watched
        if watched and chance.random() < _WATCHED:
            return watched
        with self._lock:
            tasks = [*self._gone, *(task for own in self._tasks.values() for task in own)]
        return chance.choice(tasks) if tasks else None


class Diary:
    """What all users noted: complete when they have ended, since a write is noted when it is over.

    Args:
        commits: the file in which the processes note their commits.
    """

    def __init__(self, commits: Path) -> None:
        self.reads: list[Read] = []
        self.answers: set[tuple[str, int]] = set()  # method and status
        self._attempts: list[tuple[str, Write]] = []
        self._commits, self._numbers = commits, count()

    def number(self) -> str:
        return str(next(self._numbers))

    def attempted(self, number: str, write: Write) -> None:
        self._attempts.append((number, write))

    def acknowledged_writes(self) -> list[Write]:
        """Each to be seen from when its writer was told so."""
        return [write for _, write in self._attempts]

    def committed_writes(self) -> list[Write]:
        """Each to be seen from its commit on, whether or not anybody was told."""
        at = self.commits()
        return [
            write._replace(since=at.get(number, write.since)) for number, write in self._attempts
        ]

    def commits(self) -> dict[str, float]:
        text = self._commits.read_text() if self._commits.exists() else ""
        return {number: float(at) for number, at in (line.split() for line in text.splitlines())}


class User:
    """One who goes from process to process; what is sent at once must be another's."""

    def __init__(self, token: str, board: Board, diary: Diary, *, seed: int) -> None:
        self._token, self._board, self._diary = token, board, diary
        self._chance = random.Random(seed)
        self._open: dict[Place, http.client.HTTPConnection] = {}

    def act(self) -> None:
        """One request, of any kind, at any process."""
        place = self._chance.choice(self._board.places)
        if self._chance.random() < _WRITES:
            self._write(place)
        elif self._chance.random() < _LISTS:
            self.read_list(place, self._any_project())
        elif task := self._board.any_to_read(self._chance):
            self.read(place, task)

    def create(self, place: Place, project: str) -> None:
        number, began = self._diary.number(), time.monotonic()
        path, body = f"/projects/{project}/tasks", {"title": "version 1"}
        status, view = self._send(place, "POST", path, number=number, body=body)
        if status == 201:
            write = Write(project, view["id"], 1, began, time.monotonic())
            self._diary.attempted(number, write)
            self._board.add(Task(view["id"], project))

    def change(self, place: Place, task: Task, *, kill: bool = False) -> str:
        """The next version of a task that the caller has taken; returns the write's number."""
        return self._write_next(place, task, {"title": f"version {task.version + 1}"}, kill=kill)

    def delete(self, place: Place, task: Task, *, kill: bool = False) -> str:
        return self._write_next(place, task, None, kill=kill)

    def read(self, place: Place, task: Task) -> None:
        began = time.monotonic()
        status, view = self._send(place, "GET", f"/tasks/{task.id}")
        if status in (200, 404):
            self._saw(place, task.project, task.id, [view] if status == 200 else [], began)

    def read_list(self, place: Place, project: str) -> None:
        began = time.monotonic()
        status, page = self._send(place, "GET", f"/projects/{project}/tasks?limit=100")
        if status == 200:
            self._saw(place, project, None, page["items"], began)

    def close(self) -> None:
        """Close all connections; the next request opens another."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _any_project(self) -> str:
        return self._chance.choice(self._board.projects)

    def _write(self, place: Place) -> None:
        project = self._any_project()
        tasks = self._board.of(project)
        creates = self._chance.random() < _CREATIONS and len(tasks) < _MOST
        if creates or len(tasks) < _FEWEST:
            self.create(place, project)
            return
        task = self._chance.choice(tasks)
        if task.take():
            removes = self._chance.random() < _DELETIONS
            (self.delete if removes else self.change)(place, task)
            task.leave()

    def _write_next(
        self, place: Place, task: Task, body: Mapping[str, str] | None, *, kill: bool
    ) -> str:
        number, began, deletes = self._diary.number(), time.monotonic(), body is None
        method, path = ("DELETE" if deletes else "PATCH"), f"/tasks/{task.id}"
        status, _ = self._send(
            place, method, path, number=number, body=body, version=task.version, kill=kill
        )
        answered = time.monotonic() if status in (200, 204) else math.inf
        version = task.version + 1
        write = Write(task.project, task.id, version, began, answered, deletes)
        self._diary.attempted(number, write)
        task.version = version
        if deletes or answered == math.inf:
            self._board.remove(task)
        return number

    def _saw(
        self, place: Place, project: str, task: str | None, views: list[Any], began: float
    ) -> None:
        ended = time.monotonic()
        for view in views:
            assert view["title"] == f"version {view['version']}", view
        seen = {view["id"]: view["version"] for view in views}
        self._diary.reads.append(Read(place.name, project, task, seen, began, ended))

    def _send(
        self,
        place: Place,
        method: str,
        path: str,
        *,
        number: str | None = None,
        body: Any = None,
        version: int | None = None,
        kill: bool = False,
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        if number is not None:
            headers["X-Trial-Write"] = number
        if version is not None:
            headers["If-Match"] = f'"v{version}"'
        if kill:
            headers["X-Trial-Kill"] = "now"
        sent = None if body is None else json.dumps(body)
        status, answer = self._exchange(place, method, f"/api/v1{path}", sent, headers)
        self._diary.answers.add((method, status))
        return status, answer

    def _exchange(
        self, place: Place, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        """Status and document; nothing is sent twice, and a connection that broke is left."""
        connection = self._open.get(place)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=_TIMEOUT_S)
            self._open[place] = connection
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._open[place]
            return BROKEN, None
        return answer.status, json.loads(text) if text else None


class Users(Killed):
    """Several, each on a thread of its own, until the block ends."""

    def __init__(self, users: Sequence[User]) -> None:
        self._users, self._ending = users, threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [threading.Thread(target=self._go_on, args=(each,)) for each in users]
        for thread in self._threads:
            thread.start()

    def kill(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        for user in self._users:
            user.close()
        if self._faults:
            raise self._faults[0]

    def _go_on(self, user: User) -> None:
        try:
            while not self._ending.is_set():
                user.act()
        except BaseException as fault:
            self._faults.append(fault)
