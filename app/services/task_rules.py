"""What a task may be: the one place, for the API and the importer alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.db.enums import Priority, TaskStatus
from app.services.text_rules import Rule, checked, text_rule, word_rule

TITLE_MAX = 500
DESCRIPTION_MAX = 20_000
LABELS_MAX = 20
LABEL_MAX = 50

_label = text_rule(least=1, most=LABEL_MAX, strip=True)


def moment(value: Any) -> datetime | None:
    """A moment in UTC, or None.

    Raises:
        ValueError: no offset, or not within the years 1 to 9999 once in UTC.
    """
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date and time with an offset, such as 2030-01-31T17:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is too far from today") from None


def _labels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("must be a list of words")
    kept = tuple(sorted({_labelled(name) for name in value}))
    if len(kept) > LABELS_MAX:
        raise ValueError(f"must be at most {LABELS_MAX} labels")
    return kept


def _labelled(name: Any) -> str:
    try:
        return str(_label(name))
    except ValueError as error:
        raise ValueError(f"each label {error}") from None


def _assignee(value: Any) -> UUID | None:
    if value is not None and not isinstance(value, UUID):
        raise ValueError("must be the id of an account")
    return value


RULES: Mapping[str, Rule] = {
    "title": text_rule(least=1, most=TITLE_MAX, strip=True),
    "description": text_rule(most=DESCRIPTION_MAX),
    "status": word_rule(TaskStatus),
    "priority": word_rule(Priority),
    "due_at": moment,
    "labels": _labels,
    "assignee_id": _assignee,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to be stored. What exists obeys the rules: the constructor checks them.

    Raises:
        InvalidInput: with every field that is wrong.
    """

    title: str
    description: str = ""
    status: str = TaskStatus.PENDING
    priority: str = Priority.MEDIUM
    due_at: datetime | None = None
    labels: tuple[str, ...] = ()
    assignee_id: UUID | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in checked(RULES, given).items():
            object.__setattr__(self, name, value)


def checked_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a patch, by the same rules.

    Raises:
        InvalidInput: with every field that is wrong or cannot be set.
    """
    return checked(RULES, changes)
