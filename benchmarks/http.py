"""Whole requests: the cached list of 20 tasks over loopback, and the same tasks from plain Flask.

`python -m benchmarks.http --json`. All are served by gunicorn with this repository's
`gunicorn.conf.py`, two workers of eight threads, at the same time and in the same rounds; one
process sends the requests, as many at once as there are threads. Ours is authenticated, limited by
three limits and cached. The peers are a bare Flask route that serialises the tasks, and Flask with
Flask-Limiter and Flask-Caching on the same Valkey, without authentication. `cpu_us` is what a
request costs the server's processes: on a machine that others use too, it tells more than the rate.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import redis
import requests

from benchmarks.http_peers import LIMITS
from benchmarks.measuring import main, percentiles_us, versions
from tests.support.child import ROOT
from tests.support.processes import Gunicorn, environment
from tests.support.redis_servers import Valkey

ROUNDS, REQUESTS, CONNECTIONS = 15, 1_000, 16
WORKERS, THREADS = 2, 8
TASKS, COUNTED = 20, 500
PASSWORD = "correct horse battery"


class BareFlask(Gunicorn):
    app = "benchmarks.http_peers:bare_flask()"


class AssembledStack(Gunicorn):
    app = "benchmarks.http_peers:assembled_stack()"


KINDS: Mapping[str, type[Gunicorn]] = {
    "ours": Gunicorn,
    "bare_flask": BareFlask,
    "assembled_stack": AssembledStack,
}


class Load:
    """The process that sends."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.workers.http_load"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def run(
        self, port: int, request: str | Sequence[str], *, connections: int, count: int
    ) -> dict[str, Any]:
        """Seconds of the whole (`whole`) and of each request (`each`).

        Args:
            request: what all connections send, or what each of them does; see `workers.http_load`.
        """
        asked = {"port": port, "request": request, "connections": connections, "count": count}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told

    def close(self) -> None:
        self._process.communicate(timeout=30)


def measure(rounds: int = ROUNDS, requests: int = REQUESTS) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        Valkey.start(Path(name) / "valkey") as server,
        contextlib.closing(Load()) as load,
        _served(server.url, Path(name)) as served,
    ):
        with redis.Redis.from_url(server.url) as raw:
            trips = _round_trips(raw, load, *served["ours"])
            valkey = raw.info("server").get("valkey_version", "")
        return {
            **trips,
            **_compared(load, served, rounds, requests),
            "redis_failures": int(_metric(served["ours"][0], "taskflow_redis_failures_total")),
            "workers": WORKERS,
            "threads": THREADS,
            "connections": CONNECTIONS,
            "versions": {
                "valkey": valkey,
                **versions("flask", "gunicorn", "flask-limiter", "flask-caching", "redis"),
            },
        }


@contextlib.contextmanager
def _served(url: str, folder: Path) -> Iterator[dict[str, tuple[Gunicorn, str]]]:
    """Each kind's server, and the request to send to it."""
    file = folder / "tasks.json"
    env = {
        "REDIS_URL": url,
        "DATABASE_URL": f"sqlite:///{folder}/taskflow.db",
        "SECRET_KEY": "for this run of the benchmark alone",
        "LOG_LEVEL": "warning",
        "RATE_LIMIT_READS": LIMITS,
        "CACHE_TTL_S": "5",
        # On a machine that others use too, a busy Redis must not become a lost one.
        **dict.fromkeys(("LIMITER_TIMEOUT_MS", "CACHE_TIMEOUT_MS"), "5000"),
        "REQUEST_REDIS_BUDGET_MS": "10000",
        "TASKS_FILE": str(file),
    }
    migrate = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    subprocess.run(migrate, cwd=ROOT, env=environment(env), check=True, stdout=sys.stderr)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Gunicorn.start(env, WORKERS, THREADS, folder=folder))
        path, token = _with_tasks(ours.base_url)
        answer = requests.get(ours.base_url + path, headers={"Authorization": token}, timeout=10)
        file.write_bytes(answer.content)
        found = {"ours": (ours, _request(path, token))}
        for name, kind in KINDS.items():
            if name not in found:
                peer = stack.enter_context(kind.start(env, WORKERS, THREADS, folder=folder))
                found[name] = peer, _request("/tasks", token)
        _check(found, token, answer.json())
        yield found


def _with_tasks(base_url: str) -> tuple[str, str]:
    """The path of a project's list of 20 tasks, and the value of the Authorization header."""
    api = f"{base_url}/api/v1"
    who = {"email": "bench@example.com", "password": PASSWORD}
    made(f"{api}/accounts", {**who, "name": "Bench"})
    token = f"Bearer {made(f'{api}/sessions', who)['token']}"
    project = made(f"{api}/projects", {"name": "Bench"}, token)["id"]
    path = f"/api/v1/projects/{project}/tasks"
    for number in range(TASKS):
        task = {"title": f"Task number {number}", "description": "What is to be done. " * 3}
        made(base_url + path, {**task, "due_at": "2031-05-01T12:00:00Z"}, token)
    return path, token


def made(address: str, body: Mapping[str, str], token: str = "") -> dict[str, Any]:
    response = requests.post(address, json=body, headers={"Authorization": token}, timeout=10)
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()
    return found


def _check(served: Mapping[str, tuple[Gunicorn, str]], token: str, tasks: Any) -> None:
    """All of them answer with the same, and those that limit say so."""
    assert len(tasks["items"]) == TASKS
    for name, (server, request) in served.items():
        path = request.split()[1]
        answer = requests.get(server.base_url + path, headers={"Authorization": token}, timeout=10)
        assert answer.json() == tasks, name
        assert ("X-RateLimit-Remaining" in answer.headers) == (name != "bare_flask"), name


def _request(path: str, token: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {token}\r\n\r\n"


def _round_trips(raw: redis.Redis, load: Load, server: Gunicorn, request: str) -> dict[str, float]:
    """Round trips of one request: by the reads that Valkey did, and by our own metric.

    What the processes ask by themselves meanwhile is in them: some calls a second.
    """
    load.run(server.port, request, connections=CONNECTIONS, count=REQUESTS)
    reads, calls = _reads(raw), _calls(server)
    load.run(server.port, request, connections=1, count=COUNTED)
    return {
        "redis_round_trips_cached_get": round((_reads(raw) - reads - 1) / COUNTED, 2),
        "redis_calls_by_metric": round((_calls(server) - calls) / COUNTED, 2),
    }


def _reads(raw: redis.Redis) -> int:
    return int(raw.info("stats")["total_reads_processed"])


def _calls(server: Gunicorn) -> float:
    return _metric(server, "taskflow_redis_call_seconds_count")


def _metric(server: Gunicorn, name: str) -> float:
    """The sum over all labels."""
    lines = requests.get(f"{server.base_url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def cpu_s(server: Gunicorn) -> float:
    """Processor seconds that the server has used so far, all its processes together."""
    master = psutil.Process(server.pid)
    times = [each.cpu_times() for each in (master, *master.children())]
    return float(sum(each.user + each.system for each in times))


def _compared(
    load: Load, served: Mapping[str, tuple[Gunicorn, str]], rounds: int, count: int
) -> dict[str, Any]:
    """Rounds of each kind in turn; a first one is thrown away. Rates are requests a second."""
    rates: dict[str, list[float]] = {name: [] for name in served}
    cpu_us: dict[str, list[float]] = {name: [] for name in served}
    under_load: dict[str, list[float]] = {name: [] for name in served}
    alone: dict[str, list[float]] = {name: [] for name in served}
    for number in range(rounds + 1):
        for name, (server, request) in served.items():
            before = cpu_s(server)
            full = load.run(server.port, request, connections=CONNECTIONS, count=count)
            used = cpu_s(server) - before
            single = load.run(server.port, request, connections=1, count=count // 10)
            if number:
                rates[name].append(count / full["whole"])
                cpu_us[name].append(used / count * 1e6)
                under_load[name] += full["each"]
                alone[name] += single["each"]
    return {
        **{f"ratio_{peer}": _ratio(rates, peer) for peer in served if peer != "ours"},
        "requests_per_second": {name: round(statistics.median(r), 1) for name, r in rates.items()},
        "cpu_us": {name: round(statistics.median(used), 1) for name, used in cpu_us.items()},
        **{f"{name}_under_load": percentiles_us(taken) for name, taken in under_load.items()},
        **{f"{name}_alone": percentiles_us(taken) for name, taken in alone.items()},
    }


def _ratio(rates: Mapping[str, list[float]], peer: str) -> float:
    """Median over the rounds of (our requests a second / the peer's)."""
    pairs = zip(rates["ours"], rates[peer], strict=True)
    return round(statistics.median(ours / theirs for ours, theirs in pairs), 3)


if __name__ == "__main__":
    main(__doc__ or "", measure, rounds=ROUNDS, requests=REQUESTS)
