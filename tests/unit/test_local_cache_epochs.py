"""L1's proposals of epochs, which no two processes may share."""

from __future__ import annotations

import os

from app.coordination.local_cache import LocalCache
from app.coordination.scripts import ScriptRegistry


def _proposed(cache: LocalCache) -> str:
    """The epoch that a namespace would begin with, if it has none."""
    (call,) = cache.visit([], begun=["project:1"]).take_calls()
    return str(call.args[3])


def test_a_forked_child_proposes_epochs_of_its_own() -> None:
    cache = LocalCache(ScriptRegistry.from_folder()["cache_sync.v2"], meta_ttl_ms=60_000)
    before = _proposed(cache)  # from here on, parent and child have the same random state
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, _proposed(cache).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        proposals = {before, _proposed(cache), told.read()}
    os.waitpid(child, 0)
    assert [len(each) for each in proposals] == [16] * 3
