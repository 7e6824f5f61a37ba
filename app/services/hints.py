"""What was once true of something and always will be, kept to spare a question. Bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Hints(Generic[K, V]):
    """Facts that never change, such as the project of a task; the oldest are forgotten."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._known: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, of: K) -> V | None:
        return self._known.get(of)

    def put(self, of: K, fact: V) -> None:
        with self._lock:
            self._known[of] = fact
            while len(self._known) > self._most:
                self._known.popitem(last=False)
