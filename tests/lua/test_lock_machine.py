"""Whatever is done to a lock, in whatever order, it stays what a model of a few lines says it is.

The controls run the same machine on scripts with one fault each, which it has to find.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.coordination.scripts import FOLDER, ScriptRegistry
from tests.lua.conftest import ScriptServer
from tests.lua.lock_calls import LOCK, acquire, extend, gives_up, release, state, wakes
from tests.support.waiting import eventually

TTL, WAIT = 60_000, 60_000
TOKENS = st.sampled_from("abc")
STEPS = 25


class LockMachine(RuleBasedStateMachine):
    """Three tokens, one lock, and all that can happen to them on `server`."""

    server: ScriptServer

    def __init__(self) -> None:
        super().__init__()
        self.holder: str | None = None
        self.fence = 0  # the highest that was ever granted
        self.waiting = set[str]()
        self.woken = False
        self.server.empty()

    @rule(token=TOKENS)
    def acquires(self, token: str) -> None:
        self._asks(token, wait=0)

    @rule(token=TOKENS)
    def acquires_or_waits(self, token: str) -> None:
        self._asks(token, wait=WAIT)

    def _asks(self, token: str, *, wait: int) -> None:
        granted, fence, left = acquire(self.server, token, TTL, wait=wait)
        assert granted == (self.holder in (None, token)), "at most one holder"
        if not granted:
            assert (fence, 0 < left <= TTL) == (0, True)
            if wait:
                self.waiting.add(token)
                self.woken = self.woken and self.waiting != {token}
            return
        assert TTL - 10_000 < left <= TTL
        if self.holder is None:
            assert fence > self.fence, "a fence above all that were granted before"
        else:
            assert fence == self.fence, "the same token, the same fence"
        self.holder, self.fence = token, fence
        self.waiting -= {token} if wait else set()

    @rule(token=TOKENS)
    def extends(self, token: str) -> None:
        before = state(self.server)
        assert extend(self.server, token, TTL) == (token == self.holder), "only the holder's"
        assert state(self.server) == before

    @precondition(lambda self: self.holder is not None)
    @rule()
    def the_holder_releases(self) -> None:
        assert release(self.server, self.holder or "") == 1
        self.holder, self.woken = None, self.woken or bool(self.waiting)

    @rule(token=TOKENS)
    def another_releases(self, token: str) -> None:
        if token != self.holder:
            before = state(self.server)
            assert release(self.server, token) == 0, "only the holder's"
            assert state(self.server) == before

    @precondition(lambda self: self.waiting)
    @rule()
    def the_waiters_give_up(self) -> None:
        for token in self.waiting:
            gives_up(self.server, token)
        self.waiting = set()

    @precondition(lambda self: self.woken)
    @rule()
    def somebody_takes_the_wake_up(self) -> None:
        assert self.server.do("LPOP", LOCK.wake) == b"1"
        self.woken = False

    @rule(what=st.sampled_from(["lease", "fence", "everything"]))
    def something_is_lost(self, what: str) -> None:
        if what == "lease" and self.holder:
            self.server.do("PEXPIRE", LOCK.lease, 1)
            eventually(lambda: not self.server.do("EXISTS", LOCK.lease), what="the lease's end")
            self.holder = None
        elif what == "fence":
            self.server.do("DEL", LOCK.fence)
        elif what == "everything":
            self.server.empty()
            self.holder, self.waiting, self.woken = None, set(), False

    @invariant()
    def the_lease_is_the_holders(self) -> None:
        token, fence = self.server.do("HMGET", LOCK.lease, "token", "fence")
        assert token == (self.holder.encode() if self.holder else None)
        assert fence is None or int(fence) == self.fence

    @invariant()
    def a_release_has_woken_one_and_no_more(self) -> None:
        assert wakes(self.server) == self.woken

    @invariant()
    def just_those_wait_who_were_told_to(self) -> None:
        live = self.server.do("ZRANGEBYSCORE", LOCK.waiters, self.server.now_us() // 1_000, "+inf")
        assert {token.decode() for token in live} == self.waiting

    @invariant()
    def every_key_expires(self) -> None:
        assert -1 not in [self.server.do("PTTL", key) for key in LOCK]


def run_machine(on: ScriptServer, **chosen: Any) -> None:
    class Machine(LockMachine):
        server = on

    bounds = settings(
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        **chosen,
    )
    run_state_machine_as_test(Machine, settings=bounds)


def test_a_lock_is_what_the_model_says(server: ScriptServer) -> None:
    run_machine(server, max_examples=20)


FAULTS = {
    "a release by anybody": (
        "lock_release.v2",
        "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then",
        "if redis.call('EXISTS', KEYS[1]) == 0 then",
    ),
    "a renewal by anybody": (
        "lock_extend.v1",
        "if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then",
        "if redis.call('EXISTS', KEYS[1]) == 1 then",
    ),
    "two holders": (
        "lock_acquire.v2",
        "if held[1] and held[1] ~= ARGV[1] then",
        "if false then",
    ),
    "a fence without the clock": ("lock_acquire.v2", "math.max(last + 1, now_us)", "last + 1"),
    "a new fence for the same token": (
        "lock_acquire.v2",
        "if held[1] then\n",
        "if false then\n",
    ),
    "a lease for good": ("lock_acquire.v2", "redis.pcall('PEXPIRE', KEYS[1], ARGV[2])\n", "1\n"),
    "a wake-up of the dead": ("lock_acquire.v2", "redis.call('DEL', KEYS[4])", "local _"),
    "a wake-up for each waiter": ("lock_release.v2", " and redis.call('LLEN', KEYS[3]) == 0", ""),
}


@pytest.mark.parametrize("running_server", ["valkey-9.1"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_script_is_found(
    server: ScriptServer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_, right, wrong = FAULTS[fault]
    scripts = ScriptRegistry.from_folder()
    source = scripts[id_].source.replace(right, wrong)
    assert source != scripts[id_].source
    spoilt = replace(scripts[id_], source=source, sha=hashlib.sha1(source.encode()).hexdigest())
    monkeypatch.setattr(server, "_scripts", ScriptRegistry({**scripts, id_: spoilt}, FOLDER))
    first = [Phase.generate]  # found is enough: no shorter way to it is looked for
    with pytest.raises(AssertionError):
        run_machine(server, max_examples=1_000, derandomize=True, database=None, phases=first)
