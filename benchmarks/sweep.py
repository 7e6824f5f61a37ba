"""The overdue sweep at scale: a million tasks on PostgreSQL, by a scheduler process.

`python -m benchmarks.sweep --json`. The peer is the same batched UPDATE in plain SQL, one commit a
batch, with no fence, ledger, event or cache: what marking costs at the least. It runs on a copy of
the same database, one half before the sweep and one half after it. Both servers are this
repository's test servers, PostgreSQL without fsync: the figures are of work and not of a disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from app.db.migrate import upgrade
from benchmarks.measuring import main, versions
from tests.support.child import ROOT
from tests.support.postgres import PostgresServer
from tests.support.processes import environment
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

ROWS, BATCH, PROJECTS = 1_000_000, 1_000, 1_000
_PATIENCE_S = 1_800

_FILL = """
INSERT INTO accounts (id, email, name, password_hash, role, created_at, updated_at)
VALUES (gen_random_uuid(), 'a@example.com', 'a', 'none', 'user', now(), now());
INSERT INTO projects (id, owner_id, name, description, version, created_at, updated_at)
SELECT gen_random_uuid(), (SELECT id FROM accounts), 'p', '', 1, now(), now()
FROM generate_series(1, {projects});
INSERT INTO tasks (id, project_id, title, description, status, priority, due_at, version,
                   created_at, updated_at)
SELECT gen_random_uuid(), project.id, 'A task to be done ' || n, '', 'pending', 'medium',
       now() - n * interval '1 second', 1, now(), now()
FROM generate_series(1, {rows}) n
JOIN (SELECT id, row_number() OVER () - 1 AS number FROM projects) project
  ON project.number = n % {projects};
"""
_BARE = """
UPDATE tasks SET overdue_at = now(), updated_at = now(), version = version + 1
WHERE id IN (
    SELECT id FROM tasks
    WHERE status IN ('pending', 'in_progress') AND due_at < now() AND overdue_at IS NULL
    ORDER BY due_at LIMIT {batch} FOR UPDATE SKIP LOCKED)
"""
_DUPLICATES = "SELECT count(*) - count(DISTINCT subject_id) FROM outbox"
_UNMARKED = "SELECT count(*) FROM tasks WHERE overdue_at IS NULL"
_ENDED = "SELECT count(*) FROM cron_runs WHERE outcome = 'succeeded' AND job = 'overdue'"
_RUN = """
SELECT rows, extract(epoch FROM ended_at - started_at)::float FROM cron_runs WHERE job = 'overdue'
"""


def measure(rows: int = ROWS) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        PostgresServer.start(Path(name) / "postgresql") as server,
        Valkey.start(Path(name) / "valkey") as valkey,
    ):
        swept, bare = _filled(server, rows)
        bare_s = _bare(bare, rows // 2)
        peak_rss_mb = _sweep(swept, valkey.url)
        bare_s += _bare(bare, rows - rows // 2)
        with psycopg.connect(swept) as connection:
            duplicates = _value(connection, _DUPLICATES)
            unmarked = _value(connection, _UNMARKED)
            done, sweep_s = connection.execute(_RUN).fetchone() or (0, 0)
            server_version = connection.info.server_version
    return {
        "rows": done,
        "unmarked": unmarked,
        "duplicates": duplicates,
        "peak_rss_mb": peak_rss_mb,
        "rows_per_s": round(done / sweep_s),
        "rows_per_s_bare_update": round(rows / bare_s),
        "ratio_bare_update": round(done / sweep_s / (rows / bare_s), 3),
        "projects": PROJECTS,
        "batch": BATCH,
        "versions": {"postgresql": server_version, **versions("sqlalchemy", "psycopg")},
    }


def _filled(server: PostgresServer, rows: int) -> tuple[str, str]:
    """Two databases with the same overdue tasks."""
    swept = server.create_database("swept")
    upgrade(swept)
    with psycopg.connect(swept, autocommit=True) as connection:
        connection.execute(_FILL.format(rows=rows, projects=PROJECTS).encode())
        connection.execute("VACUUM ANALYZE")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute('CREATE DATABASE "bare" TEMPLATE "swept"')
    return swept, server.url_of("bare")


def _bare(url: str, rows: int) -> float:
    """Seconds to mark so many in batches, in plain SQL."""
    statement = _BARE.format(batch=BATCH).encode()
    with psycopg.connect(url) as connection:
        started = time.perf_counter()
        left = rows
        while left > 0:
            left -= connection.execute(statement).rowcount
            connection.commit()
        return time.perf_counter() - started


def _sweep(url: str, redis_url: str) -> float:
    """Let a scheduler do its first slot; the most memory that its process ever had, MB."""
    env = environment({"DATABASE_URL": url, "REDIS_URL": redis_url, "LOG_LEVEL": "error"})
    scheduler = subprocess.Popen([sys.executable, "-m", "app.scheduler"], cwd=ROOT, env=env)
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(
            lambda: _value(connection, _ENDED) == 1, timeout_s=_PATIENCE_S, what="the sweep's end"
        )
    scheduler.terminate()
    _, status, usage = os.wait4(scheduler.pid, 0)
    assert status == 0, status
    return round(usage.ru_maxrss / 1024, 1)


def _value(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main(__doc__ or "", measure, rows=ROWS)
