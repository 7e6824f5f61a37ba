"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from app.db.enums import STANDARD_PLAN


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated account. `session_id` is None where no log-in was used, as on the CLI.

    `scopes` is what a personal access token may do; None for a log-in, which may do all.
    """

    account_id: UUID
    session_id: UUID | None
    role: str
    plan: str = STANDARD_PLAN
    scopes: tuple[str, ...] | None = None
