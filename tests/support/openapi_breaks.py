"""What a client of one OpenAPI document meets that it did not expect, where another is served.

What is taken (parameters, bodies) must not become less, and what is answered must keep its fields
and types. What is added beside them breaks nobody. Only what our documents use is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

_AT_MOST = ("maxLength", "maximum", "maxItems", "exclusiveMaximum")
_AT_LEAST = ("minLength", "minimum", "minItems", "exclusiveMinimum")
_JSON = "application/json"


class Pair(NamedTuple):
    """A document that clients know, and the one that is served now."""

    known: Schema
    served: Schema


def breaks(known: Schema, served: Schema) -> list[str]:
    """A sentence for everything that breaks a client of `known`; empty where nothing does."""
    return list(_breaks(Pair(known, served)))


def _breaks(documents: Pair) -> Iterator[str]:
    for path, item in documents.known["paths"].items():
        for method, known in item.items():
            served = documents.served["paths"].get(path, {}).get(method)
            at = f"{method.upper()} {path}"
            if served is None:
                yield f"{at} is gone"
                continue
            for told in _of_operation(documents, known, served):
                yield f"{at}: {told}"


def _of_operation(documents: Pair, known: Schema, served: Schema) -> Iterator[str]:
    if known["operationId"] != served["operationId"]:
        yield f"is called {served['operationId']} now"
    if known.get("security") == [] and served.get("security") != []:
        yield "needs a log-in now"
    yield from _of_parameters(documents, known, served)
    body = _body(served)
    if "requestBody" in known:
        yield from _taken(documents, _body(known), body, "body")
    elif body:
        yield "needs a body now"
    for code, answer in known["responses"].items():
        if code < "300":
            if code not in served["responses"]:
                yield f"no longer answers {code}"
            else:
                yield from _of_answer(documents, answer, served["responses"][code])


def _of_parameters(documents: Pair, known: Schema, served: Schema) -> Iterator[str]:
    before, now = _parameters(known), _parameters(served)
    for name in before.keys() - now.keys():
        yield f"no longer takes {name}"
    for name, parameter in now.items():
        if parameter.get("required") and not before.get(name, {}).get("required"):
            yield f"needs {name} now"
    for name in before.keys() & now.keys():
        yield from _taken(documents, before[name]["schema"], now[name]["schema"], name)


def _of_answer(documents: Pair, known: Schema, served: Schema) -> Iterator[str]:
    for header in known.get("headers", {}).keys() - served.get("headers", {}).keys():
        yield f"no longer answers with {header}"
    yield from _given(documents, _content(known), _content(served), "answer")


def _taken(documents: Pair, known: Schema, served: Schema, at: str) -> Iterator[str]:
    """Whatever was right to send must still be."""
    before, now = _variants(documents.known, known), _variants(documents.served, served)
    for kind in before.keys() - now.keys():
        yield f"{at} may no longer be {kind}"
    for kind in before.keys() & now.keys():
        yield from _narrowed(before[kind], now[kind], at)
        for name in _fields(before[kind]).keys() - _fields(now[kind]).keys():
            yield f"{at}.{name} is no longer taken"
        for name in set(now[kind].get("required", ())) - set(before[kind].get("required", ())):
            yield f"{at}.{name} is needed now"
        for name, old, new in _both(before[kind], now[kind]):
            yield from _taken(documents, old, new, f"{at}.{name}")


def _given(documents: Pair, known: Schema, served: Schema, at: str) -> Iterator[str]:
    """Whatever was read in an answer must still be there, and of the same type."""
    before, now = _variants(documents.known, known), _variants(documents.served, served)
    for kind in now.keys() - before.keys():
        yield f"{at} may be {kind} now"
    for kind in before.keys() & now.keys():
        still = _fields(now[kind]).keys() & set(now[kind].get("required", ()))
        for name in set(before[kind].get("required", ())) - still:
            yield f"{at}.{name} is no longer there"
        for name, old, new in _both(before[kind], now[kind]):
            yield from _given(documents, old, new, f"{at}.{name}")


def _narrowed(known: Schema, served: Schema, at: str) -> Iterator[str]:
    words = _words(known) - _words(served)
    if words:
        yield f"{at} no longer takes {', '.join(sorted(map(str, words)))}"
    if "enum" in served and "enum" not in known:
        yield f"{at} takes some words only now"
    for bound in (*_AT_MOST, *_AT_LEAST):
        old, new = known.get(bound), served.get(bound)
        if new is not None and (old is None or (new < old if bound in _AT_MOST else new > old)):
            yield f"{at} has {bound} {new} now"
    for name in ("pattern", "format"):
        if served.get(name) not in (None, known.get(name)):
            yield f"{at} has the {name} {served[name]} now"


def _variants(document: Schema, schema: Schema) -> dict[str, Schema]:
    """The types that it may have, each with its schema."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        found = [_variants(document, each) for each in schema["anyOf"]]
        return {kind: each for variants in found for kind, each in variants.items()}
    return {str(schema["type"]): schema} if "type" in schema else {}


def _both(known: Schema, served: Schema) -> Iterator[tuple[str, Schema, Schema]]:
    """What is inside of both: fields by name, and `[]` for what a list holds."""
    before, now = _fields(known), _fields(served)
    for name in before.keys() & now.keys():
        yield name, before[name], now[name]
    for name, key in (("[]", "items"), ("{}", "additionalProperties")):
        if isinstance(known.get(key), Mapping) and isinstance(served.get(key), Mapping):
            yield name, known[key], served[key]


def _words(schema: Schema) -> set[Any]:
    return set(schema.get("enum", ()))


def _fields(schema: Schema) -> Mapping[str, Schema]:
    found: Mapping[str, Schema] = schema.get("properties", {})
    return found


def _parameters(operation: Schema) -> dict[str, Schema]:
    return {each["name"]: each for each in operation.get("parameters", ())}


def _body(operation: Schema) -> Schema:
    return _content(operation.get("requestBody", {}))


def _content(answer: Schema) -> Schema:
    found: Schema = answer.get("content", {}).get(_JSON, {}).get("schema", {})
    return found
