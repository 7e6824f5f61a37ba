"""The cache as operators see it: what is kept, what is still valid, and making it stale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from app.coordination import keys
from app.coordination.cache_calls import CacheCalls
from app.coordination.client import ScriptClient
from app.coordination.scan import keys_like
from app.coordination.scripts import Call, ScriptRegistry
from app.coordination.values import unpacked
from app.errors import CoordinationError

Value = bytes  # a view has a field of that name
_KEYS_AT_ONCE, _CALLS_AT_ONCE = 500, 50


@dataclass(frozen=True, slots=True)
class NamespaceView:
    """A namespace at one moment. `epoch` is None where the next reader begins a new one.

    `bytes` are of the values as they are stored; `tags` is how many are remembered.
    """

    namespace: str
    entries: int
    valid: int
    bytes: int
    epoch: str | None
    clock: int
    floor: int
    tags: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry: loaded at `sequence`, and `valid` if none of its tags has moved since."""

    key: str
    sequence: int
    tags: tuple[str, ...]
    valid: bool
    bytes: int
    left_ms: int
    value: Value | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the value."""
        return {name: value for name, value in asdict(self).items() if name != "value"}


class CacheInspection:
    """Looks at what one Redis caches. Every method raises CoordinationError without an answer.

    Args:
        ttl_s: how long an entry lives at most, seconds.
    """

    def __init__(self, client: ScriptClient, scripts: ScriptRegistry, *, ttl_s: int) -> None:
        self._client, self._calls = client, CacheCalls(scripts, ttl_s=ttl_s)
        self._inspect, self._drop = scripts["cache_inspect.v1"], scripts["cache_forget.v1"]

    def namespaces(self) -> list[NamespaceView]:
        """Every namespace, by name: looks at every entry there is."""
        return self._views(None)

    def namespace(self, name: str) -> NamespaceView | None:
        """One of them; None where nothing is known of it."""
        return next(iter(self._views(name)), None)

    def entries(self, namespace: str) -> list[EntryView]:
        """A namespace's entries, by key, without their values."""
        pattern = keys.cached(namespace)[1]
        pages = _pages(sorted(set(keys_like(self._client, pattern))))
        names = keys.cache(namespace, "")
        replies = self._ask(self._call(names.meta, names.tags, page) for page in pages)
        return [
            _entry(key, said)
            for page, reply in zip(pages, replies, strict=True)
            for key, said in zip(page, reply[4:], strict=True)
            if said
        ]

    def entry(self, namespace: str, key: str) -> EntryView | None:
        """One entry with its value; None where there is none."""
        names = keys.cache(namespace, key)
        call = Call(self._inspect, [names.meta, names.tags, names.entry], [1])
        found = self._client.call(call)[4]
        return _entry(names.entry, found) if found else None

    def invalidate(self, namespace: str, tags: Sequence[str]) -> int:
        """Move tags, for every process; returns how many entries that made stale."""
        before = {each.key for each in self.entries(namespace) if each.valid}
        self._client.call(self._calls.invalidate(namespace, tags))
        return len(before - {each.key for each in self.entries(namespace) if each.valid})

    def invalidate_all(self) -> int:
        """Begin a new epoch in every namespace, for every process; returns of how many.

        Also of one that nothing is stored in any more: a process may hold entries of its own.
        """
        places = {each.meta: each for each in self._places(keys.cached()[0])}.values()
        calls = (Call(self._drop, [each.meta, each.tags], []) for each in places)
        return sum(self._ask(calls))

    def _views(self, namespace: str | None) -> list[NamespaceView]:
        meta, entries = keys.cached(namespace)
        found = defaultdict[keys.Cached, set[str]](set)
        for pattern in (meta, entries):
            for key in keys_like(self._client, pattern):
                place = keys.cached_of(key)
                if place:
                    mine = found[place._replace(key=None)]
                    mine.update([key] if place.key is not None else [])
        return self._viewed(found)

    def _viewed(self, found: dict[keys.Cached, set[str]]) -> list[NamespaceView]:
        asked = [
            (place, page) for place, mine in sorted(found.items()) for page in _pages(sorted(mine))
        ]
        replies = self._ask(self._call(place.meta, place.tags, page) for place, page in asked)
        views = dict[str, NamespaceView]()
        for (place, _), reply in zip(asked, replies, strict=True):
            view = _namespace(place.namespace, reply)
            before = views.get(place.meta)
            views[place.meta] = _together(before, view) if before else view
        return list(views.values())

    def _places(self, pattern: str) -> list[keys.Cached]:
        found = map(keys.cached_of, keys_like(self._client, pattern))
        return [place for place in found if place]

    def _call(self, meta: str, tags: str, entries: Sequence[str]) -> Call:
        return Call(self._inspect, [meta, tags, *entries], [0])

    def _ask(self, calls: Iterable[Call]) -> list[Any]:
        left, replies = iter(calls), list[Any]()
        while page := list(islice(left, _CALLS_AT_ONCE)):
            replies += self._client.call_many(page)
        for reply in replies:
            if isinstance(reply, CoordinationError):
                raise reply
        return replies


def _pages(found: Sequence[str]) -> list[Sequence[str]]:
    """In pages, and one empty one of nothing."""
    starts = range(0, max(1, len(found)), _KEYS_AT_ONCE)
    return [found[at : at + _KEYS_AT_ONCE] for at in starts]


def _namespace(name: str, said: Sequence[Any]) -> NamespaceView:
    epoch, clock, floor, tags, *entries = said
    there = [each for each in entries if each]
    return NamespaceView(
        namespace=name,
        entries=len(there),
        valid=sum(each[2] for each in there),
        bytes=sum(each[3] for each in there),
        epoch=epoch.decode() if epoch else None,
        clock=clock,
        floor=floor,
        tags=tags,
    )


def _together(first: NamespaceView, more: NamespaceView) -> NamespaceView:
    """Two pages of one namespace; what is not summed is as the later one shows it."""
    return replace(
        more,
        entries=first.entries + more.entries,
        valid=first.valid + more.valid,
        bytes=first.bytes + more.bytes,
    )


def _entry(key: str, said: Sequence[Any]) -> EntryView:
    sequence, tags, valid, size, left_ms, value = said
    place = keys.cached_of(key)
    return EntryView(
        key=(place and place.key) or "",
        sequence=sequence,
        tags=tuple(tags.decode(errors="backslashreplace").split("\n")),
        valid=bool(valid),
        bytes=size,
        left_ms=left_ms,
        value=None if value is None else _readable(value),
    )


def _readable(stored: bytes) -> bytes:
    try:
        return unpacked(stored)
    except ValueError:
        return stored  # of another release, perhaps: shown as it is
