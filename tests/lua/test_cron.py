"""cron_claim and cron_settle, on every server."""

from __future__ import annotations

import pytest
from redis import ResponseError

from app.coordination import keys
from app.errors import RedisRefused
from tests.lua.conftest import ScriptServer

SLOT, NEXT = 1_700_000_000, 1_700_003_600
REFUSALS = (RedisRefused, ResponseError)  # of a server, and of fakeredis


def claim(server: ScriptServer, token: str, slot: int = SLOT, ttl: int = 5_000) -> tuple[str, int]:
    names = keys.cron("overdue", slot)
    verdict, left = server.run("cron_claim.v1", [*names], token, ttl, slot, "host:1")
    return verdict.decode(), left


def settle(server: ScriptServer, token: str, *, done: bool, slot: int = SLOT) -> int:
    names = keys.cron("overdue", slot)
    return int(server.run("cron_settle.v1", [*names], token, int(done), 60_000))


def test_one_scheduler_claims_the_slot_and_the_others_see_it_running(server: ScriptServer) -> None:
    assert claim(server, "a") == ("claimed", 5_000)
    verdict, left = claim(server, "b")
    assert verdict == "running"
    assert 0 < left <= 5_000


def test_the_same_token_renews_its_claim(server: ScriptServer) -> None:
    claim(server, "a", ttl=1_000)
    assert claim(server, "a", ttl=9_000) == ("claimed", 9_000)
    assert server.do("PTTL", keys.cron("overdue", SLOT).lease) > 1_000


def test_a_slot_is_done_only_once_its_outcome_has_committed(server: ScriptServer) -> None:
    claim(server, "a")
    assert settle(server, "a", done=False) == 1
    assert claim(server, "b")[0] == "claimed"
    assert settle(server, "b", done=True) == 1
    assert claim(server, "c") == ("done", 0)


def test_a_done_slot_does_not_stand_in_the_way_of_the_next(server: ScriptServer) -> None:
    claim(server, "a")
    settle(server, "a", done=True)
    assert claim(server, "b", slot=NEXT)[0] == "claimed"


def test_one_lease_covers_all_slots_of_the_job(server: ScriptServer) -> None:
    claim(server, "a")
    assert claim(server, "b", slot=NEXT)[0] == "running"


def test_settling_another_ones_claim_marks_the_fact_and_leaves_the_lease(
    server: ScriptServer,
) -> None:
    claim(server, "a")
    assert settle(server, "b", done=True) == 0
    assert claim(server, "c")[0] == "done"
    assert server.do("HGET", keys.cron("overdue", SLOT).lease, "token") == b"a"


def test_every_key_that_a_claim_writes_expires(server: ScriptServer) -> None:
    names = keys.cron("overdue", SLOT)
    claim(server, "a")
    assert 0 < server.do("PTTL", names.lease) <= 5_000
    settle(server, "a", done=True)
    assert 0 < server.do("PTTL", names.done) <= 60_000


def test_a_claim_that_cannot_be_given_an_end_is_not_kept(server: ScriptServer) -> None:
    """As by a Redis user without PEXPIRE: a claim for ever would keep every scheduler waiting."""
    names = keys.cron("overdue", SLOT)
    with pytest.raises(REFUSALS):
        server.run("cron_claim.v1", [*names], "a", "1.5", SLOT, "host:1")
    assert server.do("EXISTS", names.lease) == 0
    assert claim(server, "b") == ("claimed", 5_000)
