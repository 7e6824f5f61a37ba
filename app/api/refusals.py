"""What only some handlers refuse, for their `responses`: by the caller's role in the project."""

from __future__ import annotations

from typing import Any

from app.api.openapi import refused

NEEDS_OWNER: dict[str | int, Any] = {403: refused("A member, but not the owner.")}
NEEDS_EDITOR: dict[str | int, Any] = {
    403: refused("A member who may only read."),
    409: refused("The project is archived."),
}
