"""L1: what one process holds of the shared cache, judged anew by each request.

A request names the namespaces that it may read (a `Visit`); a script tells what moved there since
this process last asked, in the same round trip as the request's limits. Entries are then held to
the rule that Redis holds its own to: loaded at a sequence after which none of their tags moved.
Nothing is deleted for having moved, and only the script's answer says how far this process has
seen: an invalidation of its own may have overtaken another's.

What is known of a namespace is its generation. Another epoch, or more moved than is told, begins a
new one, empty; a request reads and fills only the one that it was told of.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import uuid_utils

from app.coordination import forks, keys
from app.coordination.clocks import since_boot
from app.coordination.scripts import Arg, Call, Script
from app.coordination.values import kept_bytes

_MOST_TOLD = 256
_MOST_MOVED = 4_096
_visit: ContextVar[Visit | None] = ContextVar("cache_visit", default=None)


class Generation:
    """What is known of a namespace: seen up to which sequence, and when each tag last moved."""

    __slots__ = ("epoch", "floor", "moved", "seen")

    def __init__(self, epoch: bytes, seen: int, floor: int) -> None:
        self.epoch, self.seen, self.floor = epoch, seen, floor
        self.moved: dict[str, int] = {}

    def covers(self, sequence: int, tags: Sequence[str]) -> bool:
        """Whether what was loaded at `sequence` shows all that is known to have moved."""
        moved = self.moved
        return sequence >= self.floor and all(moved.get(tag, 0) <= sequence for tag in tags)

    def end(self) -> None:
        """Cover nothing from now on: entries that are still held keep no more than this alive."""
        self.floor, self.moved = sys.maxsize, {}


class Held(NamedTuple):
    """One entry. `until`: by `since_boot`; `size`: of all of it, roughly, bytes."""

    generation: Generation
    sequence: int
    tags: tuple[str, ...]
    value: Any
    until: float
    size: int


class Loaded(NamedTuple):
    """How a value came about: all that moved up to `sequence` is in it.

    `size`: of the value, bytes, roughly. `epoch`: of the server's answer; None where the request's
    own holds.
    """

    sequence: int
    tags: Sequence[str]
    ttl_ms: int
    size: int
    epoch: bytes | None = None


class LocalCache:
    """The entries of one process, the ones used longest ago leaving first.

    Args:
        most_bytes: of all entries together.
        meta_ttl_ms: of a namespace's sequence and tags on the server, ms.
        most_moved: tags that moved, remembered of all namespaces together; 200 bytes each, about.
        on_bytes: called with how many bytes are held, when that has changed.
    """

    def __init__(
        self,
        script: Script,
        *,
        meta_ttl_ms: int,
        most_bytes: int = 32 << 20,
        most_entries: int = 20_000,
        most_namespaces: int = 10_000,
        most_moved: int = 100_000,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._script, self._meta_ttl_ms = script, meta_ttl_ms
        self._most_bytes, self._most_entries = most_bytes, most_entries
        self._most_namespaces, self._most_moved = most_namespaces, most_moved
        self._on_bytes = on_bytes
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """Empty: a thread that the child does not have may have been at it."""
        self._generations: OrderedDict[str, Generation] = OrderedDict()
        self._held: OrderedDict[tuple[str, str], Held] = OrderedDict()
        self._lock = threading.Lock()
        self._moved = 0  # tags, of all in `_generations`
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def visit(self, namespaces: Iterable[str], *, begun: Iterable[str] = ()) -> Visit:
        """What one request may read of these namespaces, once its questions are answered.

        Args:
            begun: more of them, begun by the look where there are none: the asker's own, for
                asking leaves keys. The others are begun by whoever misses an entry.
        """
        questions = [self.question(each, begin=True) for each in begun]
        return Visit(self, [*questions, *map(self.question, namespaces)])

    def peek(self, namespace: str, key: str) -> Any:
        """An entry's value before anybody has judged it; None if there is none."""
        held = self._held.get((namespace, key))
        return held.value if held else None

    def get(self, generation: Generation, namespace: str, key: str) -> Held | None:
        """The entry, if it shows all that has moved as far as `generation` knows."""
        with self._lock:
            held = self._held.get((namespace, key))
            if held is None:
                return None
            fresh = held.generation is generation and held.until > since_boot()
            if not fresh or not generation.covers(held.sequence, held.tags):
                self._drop((namespace, key))
                self._on_bytes(self.bytes)
                return None
            self._held.move_to_end((namespace, key))
            return held

    def put(self, namespace: str, key: str, held: Held) -> None:
        if held.size > self._most_bytes:
            return
        with self._lock:
            self._drop((namespace, key))
            self._held[namespace, key] = held
            self.bytes += held.size
            while self.bytes > self._most_bytes or len(self._held) > self._most_entries:
                self._drop(next(iter(self._held)))
            self._on_bytes(self.bytes)

    def question(self, namespace: str, *, begin: bool = False) -> Question:
        with self._lock:
            known = self._generations.get(namespace)
            seen = known.seen if known else 0
            if known:
                self._generations.move_to_end(namespace)
        args: list[Arg] = [
            known.epoch if known else "",
            seen,
            _MOST_TOLD,
            _new_epoch() if begin else "",
            self._meta_ttl_ms,
        ]
        names = keys.cache(namespace, "")
        return Question(namespace, known, Call(self._script, [names.meta, names.tags], args))

    def heard(self, question: Question, reply: Sequence[Any]) -> Generation | None:
        """Take in what moved; the generation that the asking request may use, None without one."""
        epoch, clock, floor, _, follows, *moved = reply
        with self._lock:
            known = question.known
            if not epoch:
                if self._generations.get(question.namespace) is known:
                    self._end(question.namespace)
                return None
            if not follows or known is None:
                return self._begin(question.namespace, Generation(epoch, clock, floor))
            before = len(known.moved)
            for tag, sequence in zip(moved[::2], moved[1::2], strict=True):
                name = tag.decode()
                known.moved[name] = max(sequence, known.moved.get(name, 0))
            known.seen, known.floor = max(known.seen, clock), max(known.floor, floor)
            if self._generations.get(question.namespace) is known:
                self._moved += len(known.moved) - before
                self._keep_within_bounds(question.namespace, known)
            return known

    def _begin(self, namespace: str, generation: Generation) -> Generation:
        current = self._generations.get(namespace)
        if current and current.epoch == generation.epoch and current.seen >= generation.seen:
            return current  # another request has begun it, and knows all that this one does
        self._end(namespace)
        self._generations[namespace] = generation
        self._keep_within_bounds(namespace, generation)
        return generation

    def _keep_within_bounds(self, namespace: str, generation: Generation) -> None:
        if len(generation.moved) > _MOST_MOVED:
            self._end(namespace)
        while len(self._generations) > self._most_namespaces or self._moved > self._most_moved:
            self._end(next(iter(self._generations)))

    def _end(self, namespace: str) -> None:
        gone = self._generations.pop(namespace, None)
        if gone is not None:
            self._moved -= len(gone.moved)
            gone.end()

    def _drop(self, place: tuple[str, str]) -> None:
        gone = self._held.pop(place, None)
        if gone is not None:
            self.bytes -= gone.size


def _new_epoch() -> str:
    """60 random bits, for whoever finds none. Two of them are asked for by almost every request.

    Not by `secrets`: at each of its calls to the system another thread takes the interpreter's
    lock, and the request waits for its turn again. After a fork the library draws others.
    """
    return uuid_utils.uuid4().hex[:16]


class Question(NamedTuple):
    """What moved in a namespace since `known`?"""

    namespace: str
    known: Generation | None
    call: Call


class Visit:
    """One request's sight of some namespaces; none of them before an answer is `heard`."""

    def __init__(self, local: LocalCache, questions: Sequence[Question]) -> None:
        self._local, self._questions = local, questions
        self._told: dict[str, Generation] = {}
        self._asked = False

    def take_calls(self) -> list[Call]:
        """What to ask Redis, on the request's first round trip; nothing from then on."""
        calls = [] if self._asked else [question.call for question in self._questions]
        self._asked = True
        return calls

    def heard(self, replies: Sequence[Any]) -> None:
        """The answers to what was taken, in its order; an error among them answers nothing."""
        for question, reply in zip(self._questions, replies, strict=True):
            generation = None
            if not isinstance(reply, Exception):
                generation = self._local.heard(question, reply)
            if generation is not None:
                self._told[question.namespace] = generation

    def get(self, namespace: str, key: str) -> Any:
        """The value, as of this request or later; None where there is none."""
        generation = self._told.get(namespace)
        held = self._local.get(generation, namespace, key) if generation else None
        return held.value if held else None

    def sequence(self, namespace: str) -> int | None:
        """What a value loaded from now on shows all changes up to; None if not known."""
        generation = self._told.get(namespace)
        return generation.seen if generation else None

    def put(self, namespace: str, key: str, value: Any, loaded: Loaded) -> None:
        """Keep a value, unless it is of another epoch than was told."""
        generation = self._told.get(namespace)
        if generation is None or loaded.epoch not in (None, generation.epoch):
            return
        until = since_boot() + loaded.ttl_ms / 1000
        sequence, tags = loaded.sequence, tuple(loaded.tags)
        size = loaded.size + kept_bytes(namespace, key, *tags)
        self._local.put(namespace, key, Held(generation, sequence, tags, value, until, size))


def current_visit() -> Visit | None:
    """The running request's, where it has one."""
    return _visit.get()


def begin_visit(visit: Visit | None) -> None:
    """Let the running request see by `visit` from now on; None ends it."""
    _visit.set(visit)
