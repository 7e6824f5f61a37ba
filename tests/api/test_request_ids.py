"""One id follows a request through answers and logs."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

HEADER = "X-Request-ID"


@pytest.mark.parametrize("given", ["a", "trace-1.2_3", "x" * 64])
def test_a_harmless_id_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/health/live", headers={HEADER: given}).headers[HEADER] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "é", "a;b", "../x", "a\tb"])
def test_any_other_id_is_replaced(client: FlaskClient, given: str) -> None:
    made = client.get("/health/live", headers={HEADER: given}).headers[HEADER]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_each_request_without_an_id_gets_another(client: FlaskClient) -> None:
    made = {client.get("/health/live").headers[HEADER] for _ in range(20)}
    assert len(made) == 20


def test_refused_requests_have_one_too(client: FlaskClient) -> None:
    for path in ("/nothing", "/api/v1/projects"):
        assert client.get(path, headers={HEADER: "mine"}).headers[HEADER] == "mine"
