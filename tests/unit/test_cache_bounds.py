"""Over a bounded set of keys the cache takes bounded memory, here and in Redis."""

from __future__ import annotations

import pytest

from app.coordination.cache_calls import MOST_TAGS
from app.coordination.stale import Stale
from tests.support.caches import HOME, Process, visiting
from tests.support.redis_servers import Valkey

NAMESPACES, KEYS_EACH, TAG_KINDS = 10, 10, 2_000


def churn(process: Process, turns: int) -> None:
    """Each turn reads one key and moves one tag; of the few keys each is read again and again."""
    for turn in range(turns):
        namespace = f"project:{turn % NAMESPACES}"
        visit = process.cache.local.visit([namespace])
        process.cache.ask(visit)
        tag = f"task:{turn * 7 % TAG_KINDS}"
        with visiting(visit):
            key = f"key {turn // NAMESPACES % KEYS_EACH}"
            process.cache.fetch(namespace, key, tags=[tag], load=process.load)
        process.cache.invalidate([Stale((namespace,), (f"task:{turn * 11 % TAG_KINDS}", "lists"))])


@pytest.mark.parametrize("turns", [3_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_nothing_leaks_whatever_is_stored_and_invalidated(valkey: Valkey, turns: int) -> None:
    process = Process(valkey.url)
    churn(process, turns)
    with valkey.client() as raw:
        found = list(raw.scan_iter(count=1_000))
        entries = [key for key in found if ":entry:" in key]
        held = sum(raw.memory_usage(key, samples=0) or 0 for key in found)
        assert -1 not in [raw.pttl(key) for key in found]
    assert len(entries) <= NAMESPACES * KEYS_EACH
    assert len(found) <= NAMESPACES * (2 + 2 * KEYS_EACH)
    # An entry takes 400 bytes at most, a tag in a sorted set 150, a meta 300.
    assert held <= NAMESPACES * (KEYS_EACH * 400 + (MOST_TAGS + 1) * 150 + 300)
    local = process.cache.local
    assert len(local) <= NAMESPACES * KEYS_EACH
    assert len(local._generations) == NAMESPACES
    assert local._moved <= NAMESPACES * min(TAG_KINDS, 4_096)
    assert len(process.cache._fallback._written) <= NAMESPACES


def test_what_a_process_holds_is_counted_with_its_keys_and_tags(valkey: Valkey) -> None:
    process = Process(valkey.url)
    key, tag = "k" * 4_000, "t" * 1_000
    process.read()
    with visiting(process.visit()):
        process.cache.fetch(HOME, key, tags=[tag], load=process.load)
    assert 5_000 < process.cache.local.bytes < 6_000
