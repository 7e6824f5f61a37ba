"""The request as handlers see it."""

from __future__ import annotations

from typing import Any

from flask import Request
from werkzeug.datastructures import ImmutableMultiDict


class Arguments(ImmutableMultiDict[str, str]):
    """A query or form whose missing fields cost nothing.

    Werkzeug raises and catches an error for each; the schema layer asks for every field there is.
    """

    def get(self, key: str, default: Any = None, type: Any = None) -> Any:  # type: ignore[override]  # overloaded there
        return super().get(key, default, type) if key in self else default


class ApiRequest(Request):
    parameter_storage_class = Arguments
