"""JSON by orjson: bytes straight into the answer, and a strict reader."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response
from flask.json.provider import JSONProvider


class OrjsonProvider(JSONProvider):
    """What `jsonify`, `request.get_json` and the answers of handlers go through.

    The reader refuses NaN, lone surrogates and nesting beyond 1,024, all as malformed.
    """

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        return json_response(self._prepare_response_obj(args, kwargs))


def json_response(value: Any) -> Response:
    """200 with `value` as JSON."""
    return Response(orjson.dumps(value) + b"\n", mimetype="application/json")
