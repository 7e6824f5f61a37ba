"""What every answer says to browsers, whatever it answers."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.api.conftest import MakeApp

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", ["/api/v1/accounts/me", "/nothing", "/openapi.json", "/health"])
def test_every_answer_is_hardened(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    assert answer.headers["Content-Security-Policy"] == NOTHING


def test_the_page_may_load_its_own_files_only(client: FlaskClient) -> None:
    policy = client.get("/docs").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_in_production_browsers_are_told_to_stay_with_https(
    make_app: MakeApp, ready_url: str, client: FlaskClient
) -> None:
    assert "Strict-Transport-Security" not in client.get("/health/live").headers
    secured = make_app(DATABASE_URL=ready_url, APP_ENV="production", SECRET_KEY="k" * 32)
    answer = secured.test_client().get("/health/live")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
