"""What a list of tasks may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import orjson
from sqlalchemy import Select, not_, or_

from app.db.models import Task
from app.db.queries import after, is_late, is_open, seen_tasks
from app.db.types import db_now
from app.errors import FieldError, InvalidInput
from app.services.cursors import decode_cursor
from app.services.task_rules import RULES, moment
from app.services.text_rules import Rule, checked

LIMIT_MAX = 200
LIMIT_DEFAULT = 50
_MOMENTS: Mapping[str, Rule] = {"due_before": moment, "due_after": moment}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """Filters, order and place of a page. All filters given must hold.

    `overdue` means open and past due at this moment, whether the sweep has marked it or not.
    `due_after` is inclusive, `due_before` exclusive. Order `created` is oldest first.

    Raises:
        InvalidInput: a value out of bounds, such as a cursor of another list.
    """

    status: str | None = None
    priority: str | None = None
    overdue: bool | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    order: Literal["created", "-created"] = "created"
    cursor: str | None = None
    limit: int = LIMIT_DEFAULT

    def __post_init__(self) -> None:
        bounds = {"due_before": self.due_before, "due_after": self.due_after}
        for name, value in checked(_MOMENTS, bounds).items():
            object.__setattr__(self, name, value)
        words = {"status": self.status, "priority": self.priority}
        checked(RULES, {name: word for name, word in words.items() if word is not None})
        if not 1 <= self.limit <= LIMIT_MAX:
            reason = f"must be 1 to {LIMIT_MAX}"
            raise InvalidInput("The page cannot be that long.", [FieldError("limit", reason)])
        if self.order not in ("created", "-created"):
            reason = "must be created or -created"
            raise InvalidInput("There is no such order.", [FieldError("order", reason)])
        self.last_id()

    def last_id(self) -> UUID | None:
        """The task that the page begins behind, or None for the first page."""
        return None if self.cursor is None else decode_cursor(self.cursor, order=self.order)

    def key(self, account_id: UUID) -> str:
        """The cache's key, as JSON. It names the reader, whose sight the loader checks.

        The place is told by its task: a cursor's text may be written in many ways, and long ones.
        """
        return orjson.dumps((account_id, self if self.cursor is None else self._placed())).decode()

    def statement(self, project_id: UUID, account_id: UUID) -> Select[Task]:
        """The page's rows with their labels, and one more that tells whether another follows."""
        rows = seen_tasks(account_id).where(Task.project_id == project_id)
        ordered = after(
            self._filtered(rows), Task.id, self.last_id(), falling=self.order == "-created"
        )
        return ordered.limit(self.limit + 1)

    def _placed(self) -> dict[str, object]:
        return {**{name: getattr(self, name) for name in self.__slots__}, "cursor": self.last_id()}

    def _filtered(self, rows: Select[Task]) -> Select[Task]:
        if self.status is not None:
            rows = rows.where(Task.status == self.status)
        if self.priority is not None:
            rows = rows.where(Task.priority == self.priority)
        if self.due_before is not None:
            rows = rows.where(Task.due_at < self.due_before)
        if self.due_after is not None:
            rows = rows.where(Task.due_at >= self.due_after)
        if self.overdue is True:
            rows = rows.where(is_late())
        if self.overdue is False:
            rows = rows.where(or_(Task.due_at.is_(None), Task.due_at >= db_now(), not_(is_open)))
        return rows
