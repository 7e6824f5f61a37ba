"""What nobody sends by accident: refused as the client's fault, and counted by the limits."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI

from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of
from tests.support.processes import Gunicorn
from tests.support.redis_servers import Valkey


def test_credentials_that_cannot_be_decoded_are_no_log_in(client: FlaskClient) -> None:
    answer = client.get(
        "/api/v1/projects", headers={"Authorization": b"Basic \xff".decode("latin-1")}
    )
    assert answer.status_code == 401
    assert "RateLimit" in answer.headers


def test_options_needs_no_body_and_is_a_read(app: OpenAPI, ann: Person) -> None:
    answer = app.test_client().options("/api/v1/sessions")
    assert answer.status_code == 200
    assert "POST" in answer.headers["Allow"]
    assert ann.request("OPTIONS", "/projects").status_code == 200


def test_the_errors_of_one_answer_are_bounded(ann: Person) -> None:
    refused = ann.post("/projects", {f"field{number}": 1 for number in range(5_000)})
    assert refused.status_code == 422
    assert len(json_of(refused)["errors"]) == 100


def test_an_unmigrated_database_is_told_and_not_a_bug(
    make_app: MakeApp, sqlite_url: str, valkey: Valkey
) -> None:
    app = make_app(DATABASE_URL=sqlite_url, REDIS_URL=valkey.url)
    client = app.test_client()
    assert client.get("/health/ready").status_code == 503
    who = {"email": "a@example.com", "password": "correct horse", "name": "A"}
    assert client.post("/api/v1/accounts", json=who).status_code == 503
    told = app.test_cli_runner().invoke(args=["cron", "run", "overdue"])
    assert (told.exit_code, told.output.count("\n")) == (1, 1)
    assert told.output.endswith("The database is not migrated: flask --app wsgi db upgrade\n")


@pytest.mark.parametrize("chunk", [b"zz", b"-5", b"0x5", b"1_0"])
def test_a_body_in_malformed_chunks_is_the_clients_fault(
    ready_url: str, valkey: Valkey, start_gunicorn: Callable[..., Gunicorn], chunk: bytes
) -> None:
    web = start_gunicorn({"DATABASE_URL": ready_url, "REDIS_URL": valkey.url})
    head = (
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as sock:
        sock.sendall(head + chunk + b"\r\n{}\r\n0\r\n\r\n")
        assert sock.recv(4_096).split(b" ")[1] == b"400"
