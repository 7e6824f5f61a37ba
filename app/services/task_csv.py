"""Tasks as CSV, in the form that task apps export: a header, then one task a row."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from app.db.enums import Priority
from app.errors import FieldError, InvalidInput
from app.services.task_rules import NewTask

ROWS_MAX = 20_000
_VARIANTS = {
    "title": ("title", "content", "name", "task", "task name", "summary", "subject"),
    "description": ("description", "notes", "note", "details"),
    "priority": ("priority", "importance"),
    "due_at": ("due date", "due at", "due", "due on", "date", "deadline"),
    "labels": ("labels", "label", "tags", "tag"),
}
_FIELD_OF = {variant: name for name, variants in _VARIANTS.items() for variant in variants}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LAST_SECOND = time(23, 59, 59, tzinfo=UTC)


@dataclass(slots=True)
class ParsedTasks:
    """What a file holds. `errors` names every bad row, as `line 7, priority`."""

    tasks: list[NewTask] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)


def parse_tasks(lines: Iterable[str]) -> ParsedTasks:
    """Read a whole file; a bad row does not stop it, unless what follows cannot be told apart.

    Column names are taken in any case, and in the variants that task apps use. A date without a
    time is due at the end of that day in UTC; a time without an offset is in UTC.

    Raises:
        InvalidInput: no usable header, or more than `ROWS_MAX` tasks.
    """
    parsed = ParsedTasks()
    try:
        _read(csv.reader(_without_mark(lines), strict=True), parsed)
    except _Broken as error:
        parsed.errors.append(FieldError(f"line {error.line}", f"is not CSV: {error}"))
    return parsed


class _Broken(Exception):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def _read(reader: Any, parsed: ParsedTasks) -> None:
    rows = _numbered(reader)
    _, header = next(rows, (0, []))
    columns = _columns(header)
    parsed.ignored_columns = [
        name for name, known in zip(header, columns, strict=True) if known is None
    ]
    for count, (line, row) in enumerate(rows):
        if count == ROWS_MAX:
            raise InvalidInput(f"A file may hold {ROWS_MAX} tasks at most.")
        try:
            parsed.tasks.append(_task(columns, row))
        except InvalidInput as error:
            parsed.errors += [_at(line, header, columns, each) for each in error.errors]


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of the line that it begins on."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _Broken(line, str(error)) from error
        if row is None:
            return
        if row:
            yield line, row


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """The lines, without the byte order mark that spreadsheets begin a file with."""
    for number, line in enumerate(lines):
        yield line.removeprefix("\ufeff") if number == 0 else line


def _columns(header: Sequence[str]) -> list[str | None]:
    """For each column the field of a task that it holds, or None."""
    columns = [_FIELD_OF.get(re.sub(r"[\s_-]+", " ", name).strip().lower()) for name in header]
    known = [name for name in columns if name is not None]
    if "title" not in known:
        raise _bad_header("must have a column title")
    if len(set(known)) != len(known):
        raise _bad_header("must not have two columns for the same field")
    return columns


def _bad_header(reason: str) -> InvalidInput:
    return InvalidInput("The file has no usable header.", [FieldError("line 1", reason)])


def _at(
    line: int, header: Sequence[str], columns: Sequence[str | None], error: FieldError
) -> FieldError:
    """The error with its place in the file: the column as the file calls it."""
    if error.field not in columns:
        return FieldError(f"line {line}", error.message)
    return FieldError(f"line {line}, {header[columns.index(error.field)]}", error.message)


def _task(columns: Sequence[str | None], row: Sequence[str]) -> NewTask:
    if len(row) != len(columns):
        reason = f"has {len(row)} values for {len(columns)} columns"
        raise InvalidInput("A row that does not fit.", [FieldError("", reason)])
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, text in zip(columns, row, strict=True):
        if name is None:
            continue
        try:
            values[name] = _READ[name](text)
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    return _checked(values, errors)


def _checked(values: dict[str, Any], errors: list[FieldError]) -> NewTask:
    """The task, or all that is wrong: what could not be read, and what breaks a rule."""
    try:
        task = NewTask(**{"title": "unread", **values})
    except InvalidInput as error:
        raise InvalidInput(str(error), [*errors, *error.errors]) from None
    if errors:
        raise InvalidInput("The row has fields that cannot be taken.", errors)
    return task


def _text(text: str) -> str:
    return text


def _priority(text: str) -> str:
    return text.strip().lower() or Priority.MEDIUM


def _due_at(text: str) -> datetime | None:
    wanted = text.strip()
    if not wanted:
        return None
    try:
        if _DAY.fullmatch(wanted):
            return datetime.combine(date.fromisoformat(wanted), _LAST_SECOND)
        found = datetime.fromisoformat(wanted)
    except ValueError:
        raise ValueError("must be a date such as 2030-01-31 or 2030-01-31T17:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _labels(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in re.split("[;,]", text) if name.strip())


_READ: dict[str, Callable[[str], Any]] = {
    "title": _text,
    "description": _text,
    "priority": _priority,
    "due_at": _due_at,
    "labels": _labels,
}
