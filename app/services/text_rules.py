"""What text may hold, and how the rules of several fields are checked together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from app.errors import FieldError, InvalidInput

Rule = Callable[[Any], Any]


def text_rule(*, most: int, least: int = 0, strip: bool = False) -> Rule:
    """A rule for text of `least` to `most` characters, that every database can store."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("must be text")
        kept = value.strip() if strip else value
        if not least <= len(kept) <= most:
            raise ValueError(f"must have {least} to {most} characters")
        if "\x00" in kept or any("\ud800" <= character <= "\udfff" for character in kept):
            raise ValueError("must not hold NUL or half of a surrogate pair")
        return kept

    return check


def word_rule(words: type[StrEnum]) -> Rule:
    """A rule for one of an enum's words."""

    def check(value: Any) -> str:
        if value not in tuple(words):
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(value)

    return check


def checked(rules: Mapping[str, Rule], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, each in the form that its rule gives it.

    Raises:
        InvalidInput: with every field that is wrong, not just the first.
    """
    kept: dict[str, Any] = {}
    errors: list[FieldError] = []
    for field, value in values.items():
        try:
            kept[field] = _rule(rules, field)(value)
        except ValueError as error:
            errors.append(FieldError(field, str(error)))
    if errors:
        raise InvalidInput("The input has fields that cannot be taken.", errors)
    return kept


def _rule(rules: Mapping[str, Rule], field: str) -> Rule:
    if field not in rules:
        raise ValueError("is not a field that can be set")
    return rules[field]
