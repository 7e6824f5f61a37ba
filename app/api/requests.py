"""The request as handlers see it."""

from __future__ import annotations

from typing import Any

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict

from app.errors import FieldError, InvalidInput


class Arguments(ImmutableMultiDict[str, str]):
    """A query or form whose missing fields cost nothing, and that tells one value only of one.

    Werkzeug raises and catches an error for each missing one; the schema layer asks for every field
    there is, with `getlist` where it takes a list.
    """

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]  # overloaded there
        """As Werkzeug has it.

        Raises:
            InvalidInput: there are several, of which all but the first would be passed over.
        """
        if key not in self:
            return default
        if len(self.getlist(key)) > 1:
            given = FieldError(key, "Given more than once")
            raise InvalidInput("Some fields cannot be taken; see errors.", [given])
        return super().get(key, default, type)


class ApiRequest(Request):
    parameter_storage_class = Arguments
