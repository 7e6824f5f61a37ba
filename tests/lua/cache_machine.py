"""Two processes with an L1 each before one cache, in every order of their steps.

A value is how often each of its tags had been written when it was loaded. A write is committed
and told to the cache in two steps, a request's look at what moved is asked, answered and heard in
three, and a load is a miss, a look at the database and a store. No read may show a value older than
the last write that the cache had been told of: when the answer was given, for what L1 holds, and
now, for what the server holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.coordination import keys
from app.coordination.local_cache import Loaded
from app.coordination.scripts import ScriptRegistry
from tests.lua.cache_calls import META_TTL, NAMES, ROOM, TTL
from tests.lua.cache_machine_parts import (
    LEASE,
    NAMESPACE,
    TAGS_OF,
    Faults,
    Load,
    Process,
    Request,
    Value,
    numbers,
)
from tests.lua.conftest import ScriptServer

PROCESSES, REQUESTS = st.integers(0, 1), st.integers(0, 1)
TAGS = st.sampled_from("ab")


class NeverStale(RuleBasedStateMachine):
    server: ScriptServer
    faults: Faults

    def __init__(self) -> None:
        super().__init__()
        self.server.empty()
        script = ScriptRegistry.from_folder()["cache_sync.v2"]
        self.processes = [
            Process(self.faults.local(script, meta_ttl_ms=META_TTL)) for _ in range(2)
        ]
        self.database: Value = {"a": 0, "b": 0}
        self.told: Value = {"a": 0, "b": 0}
        self.untold: list[tuple[str, int]] = []
        self.copy: dict[str, bytes] = {}

    # --- writers --------------------------------------------------------------------------------

    @rule(tag=TAGS)
    def a_write_is_committed(self, tag: str) -> None:
        self.database[tag] += 1
        self.untold.append((tag, self.database[tag]))

    @precondition(lambda self: self.untold)
    @rule(which=st.integers(0, 1), process=PROCESSES, most=st.sampled_from([1, 100]))
    def the_cache_is_told(self, which: int, process: int, most: int) -> None:
        tag, version = self.untold.pop(which % len(self.untold))
        args = (f"e{next(numbers)}", META_TTL, most, tag)
        sequence, _ = self._run("tag_invalidate.v2", [NAMES.meta, NAMES.tags], *args)
        self.told[tag] = max(self.told[tag], version)
        known = self.processes[process].local._generations.get(NAMESPACE)
        if self.faults.own_moves_seen and known:
            known.seen = sequence

    @rule(tag=TAGS)
    def it_is_told_again(self, tag: str) -> None:
        args = (f"e{next(numbers)}", META_TTL, 100, tag)
        self._run("tag_invalidate.v2", [NAMES.meta, NAMES.tags], *args)

    @rule()
    def others_tags_push_ours_out(self) -> None:
        args = (f"e{next(numbers)}", META_TTL, 1, f"other{next(numbers)}")
        self._run("tag_invalidate.v2", [NAMES.meta, NAMES.tags], *args)

    @rule(tag=TAGS, process=PROCESSES, most=st.sampled_from([1, 100]))
    def a_write_is_committed_and_told(self, tag: str, process: int, most: int) -> None:
        self.a_write_is_committed(tag)
        self.the_cache_is_told(which=-1, process=process, most=most)

    # --- requests -------------------------------------------------------------------------------

    @rule(process=PROCESSES, at=REQUESTS)
    def a_request_asks(self, process: int, at: int) -> None:
        own = self.processes[process]
        own.requests[at] = Request(own.local.visit([NAMESPACE]), own.earlier)
        own.earlier = dict(self.database)

    @rule(process=PROCESSES, at=REQUESTS)
    def it_is_answered(self, process: int, at: int) -> None:
        request = self.processes[process].requests[at]
        if request and request.reply is None:
            (call,) = request.visit.take_calls()
            request.reply = self._run(call.script.id, list(call.keys), *call.args)
            request.told = dict(self.told)

    @rule(process=PROCESSES, at=REQUESTS)
    def it_hears(self, process: int, at: int) -> None:
        request = self.processes[process].requests[at]
        if request and request.reply and not request.heard:
            request.visit.heard([request.reply])
            request.heard = True

    @rule(process=PROCESSES, at=REQUESTS)
    def a_request_looks_at_once(self, process: int, at: int) -> None:
        self.a_request_asks(process, at)
        self.it_is_answered(process, at)
        self.it_hears(process, at)

    @rule(process=PROCESSES, at=REQUESTS)
    def it_reads(self, process: int, at: int) -> None:
        request = self.processes[process].requests[at]
        if request is not None and request.heard:
            for key in TAGS_OF:
                self._read(self.processes[process], request, key)

    @rule(process=PROCESSES, at=REQUESTS)
    def it_reads_as_a_whole(self, process: int, at: int) -> None:
        """Looks and reads; where it misses it loads and stores."""
        self.a_request_looks_at_once(process, at)
        self.it_reads(process, at)
        self.loaders_look_at_the_database(process)
        self.loaders_store(process)

    @rule(process=PROCESSES)
    def somebody_reads_without_an_l1(self, process: int) -> None:
        own = self.processes[process]
        for key in TAGS_OF:
            self._read(own, Request(own.local.visit([]), own.earlier), key)

    def _read(self, process: Process, request: Request, key: str) -> None:
        held = request.visit.get(NAMESPACE, key)
        if held is not None:
            self._check(key, held, request.told)
            return
        token = f"t{next(numbers)}"
        args = (token, LEASE, f"e{next(numbers)}", META_TTL)
        reply = self._run("cache_read.v1", [*keys.cache(NAMESPACE, key)], *args)
        if reply[0]:
            self._hit(request, key, reply)
        elif reply[3]:
            early = request.early if self.faults.early else None
            process.loads.append(Load(request, key, token, reply[1], reply[2], early))

    def _hit(self, request: Request, key: str, reply: Sequence[Any]) -> None:
        _, sequence, epoch, stored, tags, left_ms = reply
        value = _value(key, stored)
        self._check(key, value, self.told)
        loaded = Loaded(sequence, tags.decode().split("\n"), left_ms, 100, epoch)
        request.visit.put(NAMESPACE, key, value, loaded)

    # --- loaders --------------------------------------------------------------------------------

    @rule(process=PROCESSES)
    def loaders_look_at_the_database(self, process: int) -> None:
        for load in self.processes[process].loads:
            load.value = load.value or dict(self.database)

    @rule(process=PROCESSES)
    def loaders_store(self, process: int) -> None:
        for load in self.processes[process].loads:
            if load.value is not None:
                self._store(load, {tag: load.value[tag] for tag in TAGS_OF[load.key]})
        self.processes[process].loads = []

    def _store(self, load: Load, value: Value) -> None:
        stored = " ".join(str(value[tag]) for tag in TAGS_OF[load.key])
        tags = TAGS_OF[load.key]
        args = (
            load.token,
            load.sequence,
            load.epoch,
            TTL,
            META_TTL,
            "\n".join(tags),
            stored,
            ROOM,
            TTL,
        )
        if self._run("cache_store.v2", [*keys.cache(NAMESPACE, load.key)], *args):
            loaded = Loaded(load.sequence, tags, META_TTL, 100, load.epoch)
            load.request.visit.put(NAMESPACE, load.key, value, loaded)

    @rule(process=PROCESSES)
    def loaders_fail(self, process: int) -> None:
        """And take the namespace back, whoever stored there: a loss like any other."""
        for load in self.processes[process].loads:
            names = keys.cache(NAMESPACE, load.key)
            places = [names.meta, names.tags, names.fill]
            self._run("cache_abandon.v1", places, load.token, META_TTL)
        self.processes[process].loads = []

    @rule(process=PROCESSES, tag=TAGS, lost=st.sampled_from(["nothing", "tag", "everything"]))
    def a_load_is_overtaken(self, process: int, tag: str, lost: str) -> None:
        """By a write that the cache is told of before the store, and perhaps by a loss too."""
        self.fill_leases_end()
        self.somebody_reads_without_an_l1(process)
        self.loaders_look_at_the_database(process)
        if lost == "everything":
            self.something_is_lost(lost)
        self.a_write_is_committed_and_told(tag, process, most=100)
        if lost == "tag":
            self.others_tags_push_ours_out()
        self.loaders_store(process)
        self.somebody_reads_without_an_l1(process)

    @rule()
    def fill_leases_end(self) -> None:
        """Their loaders are late, or dead."""
        for key in TAGS_OF:
            self.server.do("DEL", keys.cache(NAMESPACE, key).fill)

    # --- what is lost ---------------------------------------------------------------------------

    @rule(what=st.sampled_from(["meta", "tags", "everything"]))
    def something_is_lost(self, what: str) -> None:
        if what == "everything":
            self.server.empty()
        else:
            self.server.do("DEL", getattr(NAMES, what))

    @rule()
    def a_replica_copies(self) -> None:
        self.copy = {name: self.server.do("DUMP", name) for name in self._names()}

    @precondition(lambda self: self.copy)
    @rule()
    def the_replica_is_promoted(self) -> None:
        """With what it had; the server cannot change its own id, so the copy is of another's."""
        self.server.empty()
        for name, dumped in self.copy.items():
            if dumped:
                self.server.do("RESTORE", name, META_TTL, dumped)
        if self.copy[NAMES.meta]:
            self.server.do("HSET", NAMES.meta, "replid", "of the primary that is gone")
        self.copy = {}

    @rule(tag=TAGS, what=st.sampled_from(["meta", "tags", "everything"]), looks=st.booleans())
    def a_write_is_told_and_lost(self, tag: str, what: str, looks: bool) -> None:
        self.a_write_is_committed_and_told(tag, process=0, most=100)
        self.something_is_lost(what)
        self._next_reads(looks)

    @rule(tag=TAGS, looks=st.booleans())
    def a_failover_loses_a_write(self, tag: str, looks: bool) -> None:
        self.a_replica_copies()
        self.a_write_is_committed_and_told(tag, process=0, most=100)
        self.the_replica_is_promoted()
        self._next_reads(looks)

    def _next_reads(self, looks: bool) -> None:
        if looks:
            self.it_reads_as_a_whole(process=0, at=0)
        else:
            self.somebody_reads_without_an_l1(process=0)

    def _names(self) -> list[str]:
        return [NAMES.meta, NAMES.tags, *(keys.cache(NAMESPACE, key).entry for key in TAGS_OF)]

    def _run(self, id_: str, names: list[str], *args: Any) -> Any:
        return self.server.run(id_, names, *args)

    def _check(self, key: str, value: Value, told: Value) -> None:
        for tag in TAGS_OF[key]:
            assert value[tag] >= told[tag], f"{key} shows {tag} before write {told[tag]}"


def _value(key: str, stored: bytes) -> Value:
    return {tag: int(seen) for tag, seen in zip(TAGS_OF[key], stored.split(), strict=True)}


def drive(on: ScriptServer, examples: int, planted: Faults | None = None, steps: int = 20) -> None:
    """Run the machine; with planted faults always the same examples, and found is enough."""

    class Driven(NeverStale):
        server, faults = on, planted or Faults()

    phases = [Phase.generate] if planted else [Phase.generate, Phase.shrink]
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=planted is not None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Driven, settings=bounds)
