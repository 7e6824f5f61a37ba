"""Nobody reads what was replaced, whatever the order of steps and whatever is lost.

`cache_machine` says what may happen. The controls run it with one protection taken out each.
"""

from __future__ import annotations

import pytest

from tests.lua.cache_machine import drive
from tests.lua.cache_machine_parts import Faults, NotMerging
from tests.lua.conftest import ScriptServer

ONE_TAG = "if moved and tonumber(moved) > sequence then return 0 end"
AS_OF_NOW = ("'s', ARGV[2]", "'s', redis.call('HGET', KEYS[2], 'clock')")
TODAYS_EPOCH = ("'epoch', ARGV[3], 's'", "'epoch', meta[1], 's'")
# A store alone does no harm by not being refused: a read holds the entry to the miss's sequence. So
# these also forget that sequence, or that epoch.
FAULTS = {
    "a store as of now that is not refused though a tag moved": Faults(
        {"cache_store.v2": [(ONE_TAG, ""), AS_OF_NOW]}
    ),
    "a store as of now under the floor": Faults(
        {"cache_store.v2": [("or sequence < tonumber(meta[2])", ""), AS_OF_NOW]}
    ),
    "a store of another epoch, for today's": Faults(
        {
            "cache_store.v2": [
                ("meta[1] ~= ARGV[3] or ", "not meta[1] or "),
                ("redis.call('ZSCORE', KEYS[3], '!' .. ARGV[3])", "true"),
                TODAYS_EPOCH,
            ]
        }
    ),
    "a read under the floor": Faults(
        {"cache_read.v1": [(" or tonumber(entry[2]) < tonumber(floor)", "")]}
    ),
    "a read of another epoch": Faults({"cache_read.v1": [("entry[1] ~= epoch or ", "")]}),
    "a read that does not miss the tags": Faults(
        {"cache_read.v1": [(" and redis.call('ZSCORE', KEYS[3], '!' .. epoch)", "")]}
    ),
    "a read of another server's history": Faults(
        {"cache_read.v1": [("meta[4] == replid and ", "")]}
    ),
    "a look that takes every epoch for its own": Faults(
        {"cache_sync.v2": [("epoch ~= ARGV[1] or ", "")]}
    ),
    "a look that does not miss the tags": Faults(
        {"cache_sync.v2": [(" and redis.call('ZSCORE', KEYS[2], '!' .. epoch)", "")]}
    ),
    "a look at another server's history": Faults(
        {"cache_sync.v2": [("meta[4] == replid and ", "")]}
    ),
    "an invalidation that does not raise the clock": Faults(
        {"tag_invalidate.v2": [("'clock', 1)", "'clock', 0)")]}
    ),
    "a pruning that does not raise the floor": Faults(
        {"tag_invalidate.v2": [("redis.call('HSET', KEYS[1], 'floor', last[2])", "")]}
    ),
    "what moved is heard and not merged": Faults(local=NotMerging),
    "an invalidation of one's own moves what was seen": Faults(own_moves_seen=True),
    "a loader whose snapshot is older than its miss": Faults(early=True),
}


def test_no_read_shows_what_was_replaced(server: ScriptServer) -> None:
    drive(server, examples=60)


@pytest.mark.soak
def test_no_read_shows_what_was_replaced_at_length(server: ScriptServer) -> None:
    drive(server, examples=3_000, steps=80)


@pytest.mark.parametrize("running_server", ["valkey-9.1"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(
    server: ScriptServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = FAULTS[fault]
    monkeypatch.setattr(server, "_scripts", planted.registry())
    with pytest.raises(AssertionError, match=r"shows [ab] before write"):
        drive(server, 5_000, planted)
