"""What the benchmark of the API compares with: the least that stores a task over HTTP."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from uuid import UUID

from flask import Flask, Response, jsonify, request

from app.db.engine import Database
from app.db.models import Task
from app.db.types import new_id
from benchmarks.http_peers import new_peer


def sqlalchemy_floor() -> Flask:
    """One INSERT of the task into the same table, on the same kind of engine, and a commit.

    Nobody is authenticated, nothing limited or checked, and no label, event or history written.
    """
    app = new_peer()
    database = Database(os.environ["DATABASE_URL"], pool_size=6, pool_timeout_ms=2_000)
    project_id = UUID(os.environ["PROJECT_ID"])

    @app.post("/tasks")
    def create() -> tuple[Response, int]:
        given, now = request.get_json(), datetime.now(UTC)
        task = Task(
            id=new_id(),
            project_id=project_id,
            title=given["title"],
            description=given["description"],
            due_at=datetime.fromisoformat(given["due_at"]),
            created_at=now,
            updated_at=now,
        )
        with database.write() as session:
            session.add(task)
        return jsonify({"id": str(task.id), **given}), 201

    return app
