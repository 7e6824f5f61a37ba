"""Whole requests of each kind, on both databases: list, read, create and change a task.

`python -m benchmarks.api --json`. gunicorn serves with this repository's `gunicorn.conf.py`, two
workers of eight threads, over PostgreSQL (this repository's test server, without fsync: the figures
are of work and not of a disk) and over SQLite; one process sends, on as many connections as there
are threads. Every request is authenticated, limited by three limits and validated; lists and reads
come from the cache. The floor is a bare Flask route that inserts the same task through SQLAlchemy
and commits (`api_peers`), served alike. `ratio_sqlalchemy_floor` is the time of our POST over the
floor's, both under load; `_alone` on one connection. `cpu_us` is what a request costs the server's
processes.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.http import CONNECTIONS, PASSWORD, THREADS, WORKERS, Load, cpu_s, made
from benchmarks.http_peers import LIMITS
from benchmarks.measuring import main, percentiles_us, versions
from tests.support.child import ROOT
from tests.support.postgres import PostgresServer
from tests.support.processes import Gunicorn, environment
from tests.support.redis_servers import Valkey

ROUNDS, REQUESTS = 10, 500
TASKS = 20
FLOOR = "sqlalchemy_floor"
_TASK = {
    "title": "Task number {count}",
    "description": "What is to be done. " * 3,
    "due_at": "2031-05-01T12:00:00Z",
}


class SqlalchemyFloor(Gunicorn):
    app = "benchmarks.api_peers:sqlalchemy_floor()"


class Work(NamedTuple):
    """One kind of request: who serves it, and what each connection sends."""

    server: Gunicorn
    requests: list[str]


def measure(rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        PostgresServer.start(Path(name) / "postgresql") as postgres,
        Valkey.start(Path(name) / "valkey") as valkey,
        contextlib.closing(Load()) as load,
    ):
        databases = {
            "postgresql": postgres.create_database("benchmark"),
            "sqlite": f"sqlite:///{name}/taskflow.db",
        }
        found = {}
        for kind, url in databases.items():
            folder = Path(name) / f"served-{kind}"
            folder.mkdir()
            with _served(url, valkey.url, folder) as works:
                found[kind] = _measured(load, works, rounds, requests)
    return {
        **{f"ratio_{FLOOR}{name}": each for name, each in _ratios(found["postgresql"])},
        **{f"ratio_{FLOOR}{name}_sqlite": each for name, each in _ratios(found["sqlite"])},
        **{kind: _told(each) for kind, each in found.items()},
        "workers": WORKERS,
        "threads": THREADS,
        "connections": CONNECTIONS,
        "versions": versions("flask", "gunicorn", "sqlalchemy", "psycopg", "pydantic"),
    }


@contextlib.contextmanager
def _served(database_url: str, redis_url: str, folder: Path) -> Iterator[dict[str, Work]]:
    env = {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "SECRET_KEY": "for this run of the benchmark alone",
        "LOG_LEVEL": "warning",
        **dict.fromkeys(("RATE_LIMIT_READS", "RATE_LIMIT_WRITES"), LIMITS),
        # On a machine that others use too, a busy Redis must not become a lost one.
        **dict.fromkeys(("LIMITER_TIMEOUT_MS", "CACHE_TIMEOUT_MS"), "5000"),
        "REQUEST_REDIS_BUDGET_MS": "10000",
    }
    migrate = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    subprocess.run(migrate, cwd=ROOT, env=environment(env), check=True, stdout=sys.stderr)
    with Gunicorn.start(env, WORKERS, THREADS, folder=folder) as ours:
        caller = Caller(ours)
        works = caller.works()
        env["PROJECT_ID"] = caller.project()
        with SqlalchemyFloor.start(env, WORKERS, THREADS, folder=folder) as floor:
            yield {**works, FLOOR: Work(floor, [_request("POST", "/tasks", _TASK)] * CONNECTIONS)}


class Caller:
    """An account with what its requests are about."""

    def __init__(self, server: Gunicorn) -> None:
        self._server, self._api = server, f"{server.base_url}/api/v1"
        who = {"email": "bench@example.com", "password": PASSWORD}
        made(f"{self._api}/accounts", {**who, "name": "Bench"})
        self._token = f"Bearer {made(f'{self._api}/sessions', who)['token']}"

    def project(self) -> str:
        return str(made(f"{self._api}/projects", {"name": "Bench"}, self._token)["id"])

    def works(self) -> dict[str, Work]:
        """Lists and reads of one project, new tasks in another, changes in a third."""
        read, create, patch = (f"/api/v1/projects/{self.project()}/tasks" for _ in range(3))
        task = self._tasks(read, TASKS)[0]
        title = {"title": _TASK["title"]}
        patches = [
            self._request("PATCH", f"/api/v1/tasks/{each}", title)
            for each in self._tasks(patch, CONNECTIONS)
        ]
        return {
            "list": self._work(self._request("GET", read)),
            "read": self._work(self._request("GET", f"/api/v1/tasks/{task}")),
            "create": self._work(self._request("POST", create, _TASK)),
            "patch": Work(self._server, patches),
        }

    def _tasks(self, path: str, count: int) -> list[str]:
        address = f"{self._server.base_url}{path}"
        return [str(made(address, _TASK, self._token)["id"]) for _ in range(count)]

    def _request(self, method: str, path: str, body: Mapping[str, str] | None = None) -> str:
        headers = {"Authorization": self._token}
        if method == "PATCH":
            headers["If-Match"] = "{etag}"
        return _request(method, path, body, headers)

    def _work(self, request: str) -> Work:
        return Work(self._server, [request] * CONNECTIONS)


def _request(
    method: str,
    path: str,
    body: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """As it is sent, but for `{etag}` and `{count}`; the latter becomes eight digits."""
    text = json.dumps(body) if body else ""
    sent = {"Host": "127.0.0.1", **(headers or {})}
    if body:
        length = len(text.replace("{count}", "0" * 8))
        sent |= {"Content-Type": "application/json", "Content-Length": str(length)}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join(lines) + f"\r\n\r\n{text}"


class Measured(NamedTuple):
    """What the rounds of one kind of request took, seconds."""

    whole: list[float]
    cpu: list[float]
    each: list[float]
    alone: list[float]


def _measured(
    load: Load, works: Mapping[str, Work], rounds: int, count: int
) -> dict[str, Measured]:
    """Rounds of each kind in turn; a first one is thrown away. `whole`, `cpu`: of one request."""
    found = {name: Measured([], [], [], []) for name in works}
    for number in range(rounds + 1):
        for name, (server, requests) in works.items():
            before = cpu_s(server)
            full = load.run(server.port, requests, connections=CONNECTIONS, count=count)
            used = cpu_s(server) - before
            single = load.run(server.port, requests, connections=1, count=max(1, count // 10))
            if number:
                found[name].whole.append(full["whole"] / count)
                found[name].cpu.append(used / count)
                found[name].each.extend(full["each"])
                found[name].alone.append(statistics.median(single["each"]))
    return found


def _ratios(found: Mapping[str, Measured]) -> Iterator[tuple[str, float]]:
    """Medians over the rounds of (our POST's time / the floor's)."""
    ours, floor = found["create"], found[FLOOR]
    for name, above, below in (
        ("", ours.whole, floor.whole),
        ("_alone", ours.alone, floor.alone),
        ("_cpu", ours.cpu, floor.cpu),
    ):
        ratios = (a / b for a, b in zip(above, below, strict=True))
        yield name, round(statistics.median(ratios), 3)


def _told(found: Mapping[str, Measured]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "requests_per_second": round(1 / statistics.median(each.whole), 1),
            **percentiles_us(each.each),
            "alone_p50_us": round(statistics.median(each.alone) * 1e6, 1),
            "cpu_us": round(statistics.median(each.cpu) * 1e6, 1),
        }
        for name, each in found.items()
    }


if __name__ == "__main__":
    main(__doc__ or "", measure, rounds=ROUNDS, requests=REQUESTS)
