"""Someone who uses a running service over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

WHO = {"email": "load@example.com", "password": "correct horse battery", "name": "Load"}


class Caller:
    """A logged-in account at one instance; each call uses a connection of its own."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url, self.token = f"{base_url}/api/v1", token

    @classmethod
    def register(cls, base_url: str) -> Caller:
        """Register the account if need be, and log in."""
        requests.post(f"{base_url}/api/v1/accounts", json=WHO, timeout=10)
        who = {"email": WHO["email"], "password": WHO["password"]}
        answer = requests.post(f"{base_url}/api/v1/sessions", json=who, timeout=10)
        assert answer.status_code == 201, answer.text
        return cls(base_url, answer.json()["token"])

    def at(self, base_url: str) -> Caller:
        """The same account at another instance."""
        return Caller(base_url, self.token)

    def get(self, path: str) -> requests.Response:
        return self._send("GET", path)

    def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        return self._send("POST", path, headers, json=body)

    def made(self, path: str, body: Any) -> Any:
        answer = self.post(path, body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> requests.Response:
        sent = {"Authorization": f"Bearer {self.token}", "Connection": "close", **(headers or {})}
        return requests.request(method, f"{self.base_url}{path}", headers=sent, timeout=10, **more)
