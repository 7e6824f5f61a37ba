"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from app.db.enums import STANDARD_PLAN


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated account. `session_id` is None where no token was used, as on the CLI."""

    account_id: UUID
    session_id: UUID | None
    role: str
    plan: str = STANDARD_PLAN
