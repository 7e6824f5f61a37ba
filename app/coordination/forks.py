"""What a forked child must not share with its parent: connections, and threads it does not have.

Two processes that read one connection take each other's replies.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet


class BeginsAfresh(Protocol):
    def begin_afresh(self) -> None:
        """Forget connections without a word to the server, threads, and locks they may hold."""
        ...


def in_child(part: BeginsAfresh) -> None:
    """Let `part` begin afresh in every child process forked from this one."""
    _parts().add(part)


@cache
def _parts() -> WeakSet[BeginsAfresh]:
    parts = WeakSet[BeginsAfresh]()

    def begin_afresh() -> None:
        for part in list(parts):
            part.begin_afresh()

    os.register_at_fork(after_in_child=begin_afresh)
    return parts
