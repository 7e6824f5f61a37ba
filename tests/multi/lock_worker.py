"""One process that takes the lock again and again, and notes in a file what happened.

`lock_worker LOCK_URL REGISTER_URL LABEL FILE TTL_MS [PLANTED]`. Each time it adds 1 to a register
and gives the lock back; it ends when there are no more tickets. SIGUSR1 has it stop, as by SIGSTOP,
between its next look at the lease and the write; SIGUSR2 has it keep a lease beyond its first end.
PLANTED takes a protection out, for the negative controls: `unfenced`, the register accepts every
write; `unlocked`, the lock is granted whoever has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.coordination.client import ScriptClient, from_url
from app.coordination.lease import Lease
from app.coordination.lock import LockService
from app.coordination.lock_store import Granted, PrimaryStore, Taken
from app.coordination.scripts import FOLDER, ScriptRegistry
from app.errors import LockLost
from app.metrics import Metrics
from tests.support.lock_history import Event, Kind, Write

NAME = "one"
_WAIT_MS = 120_000
_START_S = 60

_VISIT = """
local highest = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < highest then return -1 end
redis.call('SET', KEYS[1], ARGV[1])
if ARGV[2] == '' then return tonumber(redis.call('GET', KEYS[2]) or '0') end
redis.call('SET', KEYS[2], ARGV[2])
return redis.call('RPUSH', KEYS[3], ARGV[1] .. ' ' .. ARGV[2])
"""
_TICKET = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < 1 then return 0 end
redis.call('DECR', KEYS[1])
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""


class Register:
    """A number with a fence, on a server that has nothing to do with the lock's.

    Reading with a fence shuts out all lower ones, as writing does: whoever was stopped after it had
    read must not write over what its follower is about to make of the same number. The tickets
    are kept here too, one for each acquisition that is still to be made.
    """

    def __init__(self, url: str, *, fenced: bool = True) -> None:
        self._redis: Any = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        visit = _VISIT if fenced else _VISIT.replace("tonumber(ARGV[1]) < highest", "false")
        self._visit = self._redis.register_script(visit)
        self._ticket = self._redis.register_script(_TICKET)

    def read(self, fence: int) -> int | None:
        """The number; None if a higher fence has been here."""
        return self._visited(fence, "")

    def write(self, fence: int, value: int) -> int | None:
        """The write's place among all that were accepted; None if it was not."""
        return self._visited(fence, str(value))

    def written(self) -> list[Write]:
        """All that was accepted, in the order in which it was."""
        rows = self._redis.lrange("written", 0, -1)
        return [Write(*map(int, row.split())) for row in rows]

    def count(self) -> int:
        """How many writes were accepted."""
        return int(self._redis.llen("written"))

    def newest(self) -> int:
        """The fence of the last write that was accepted."""
        row = self._redis.lindex("written", -1)
        return int(row.split()[0]) if row else 0

    def add_tickets(self, count: int) -> None:
        self._redis.incrby("tickets", count)

    def take_ticket(self, label: str) -> bool:
        return bool(self._ticket(["tickets", "taken"], [label]))

    def tickets_of(self, label: str) -> int:
        """How many a process has taken."""
        return int(self._redis.hget("taken", label) or 0)

    def start(self) -> None:
        """Let all begin who wait for it, and those who come later."""
        self._redis.rpush("start", "go")

    def wait_for_start(self) -> None:
        assert self._redis.blmove("start", "start", _START_S), "nobody gave the start"

    def waiting(self) -> int:
        """How many wait for the start."""
        return int(self._redis.info("clients")["blocked_clients"])

    def close(self) -> None:
        self._redis.close()

    def _visited(self, fence: int, value: str) -> int | None:
        said = int(self._visit(["highest", "value", "written"], [fence, value]))
        return None if said < 0 else said


class Diary:
    """Each event is one write of the kernel's: who is killed afterwards loses none."""

    def __init__(self, path: Path, label: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._label = label

    def note(self, kind: Kind, fence: int | None, at: float, **more: Any) -> None:
        assert fence is not None
        os.write(self._file, Event(kind, self._label, fence, at, **more).line().encode())


class NotingStore(PrimaryStore):
    """Notes what it was given, and whether it could still give that back."""

    diary: Diary
    fence: int | None = None

    def take(self, name: str, token: str, *, ttl_ms: int, wait_ms: int) -> Granted | Taken:
        asked = time.monotonic()
        said = super().take(name, token, ttl_ms=ttl_ms, wait_ms=wait_ms)
        if isinstance(said, Granted):
            self.fence = said.fence
            self.diary.note(Kind.GRANTED, said.fence, time.monotonic(), asked=asked)
        return said

    def release(self, name: str, token: str, *, owed_ms: int = 0, may_come: bool = False) -> bool:
        at = time.monotonic()
        released = super().release(name, token, owed_ms=owed_ms, may_come=may_come)
        self.diary.note(Kind.RELEASED if released else Kind.LOST, self.fence, at)
        return released


class Worker:
    """Takes the lock in both ways that there are, and adds 1 each time."""

    def __init__(
        self, store: NotingStore, register: Register, ttl_ms: int, orders: set[int]
    ) -> None:
        self._locks, self._diary = LockService(store, Metrics()), store.diary
        self._register, self._ttl_ms, self._orders = register, ttl_ms, orders

    def run(self, label: str) -> None:
        self._register.wait_for_start()
        turn = 0
        while self._register.take_ticket(label):
            turn += 1
            keep = signal.SIGUSR2 in self._orders
            with contextlib.suppress(LockLost), self._lock(renewed=keep or turn % 2 == 0) as lease:
                self._add(lease)
                if keep:
                    self._keep(lease)
                self._look(lease)

    @contextlib.contextmanager
    def _lock(self, *, renewed: bool) -> Iterator[Lease]:
        times: dict[str, Any] = {"ttl_ms": self._ttl_ms, "retries": None, "wait_ms": _WAIT_MS}
        if renewed:
            with self._locks.hold(NAME, on_loss="closed", **times) as lease:
                yield lease
            return
        lease = self._locks.acquire(NAME, **times)
        try:
            yield lease
        finally:
            self._locks.release(lease)

    def _add(self, lease: Lease) -> None:
        assert lease.fence is not None
        value = self._register.read(lease.fence)
        if value is None:
            self._diary.note(Kind.REFUSED, lease.fence, time.monotonic())
            return
        self._look(lease)
        if signal.SIGUSR1 in self._orders:
            self._orders.remove(signal.SIGUSR1)
            signal.raise_signal(signal.SIGSTOP)
        at = time.monotonic()
        self._diary.note(Kind.TRIED, lease.fence, at)
        number = self._register.write(lease.fence, value + 1)
        kind = Kind.REFUSED if number is None else Kind.ACCEPTED
        self._diary.note(kind, lease.fence, at, number=number or 0)

    def _keep(self, lease: Lease) -> None:
        """Work that takes longer than the lease's first time."""
        first_end = time.monotonic() + self._ttl_ms / 1000
        while time.monotonic() <= first_end:
            time.sleep(self._ttl_ms / 10_000)
            self._add(lease)
        self._look(lease)
        self._orders.remove(signal.SIGUSR2)
        self._diary.note(Kind.KEPT, lease.fence, time.monotonic())

    def _look(self, lease: Lease) -> None:
        at = time.monotonic()
        try:
            lease.ensure_held()
        except LockLost:
            self._diary.note(Kind.LOST, lease.fence, at)
            raise
        self._diary.note(Kind.HELD, lease.fence, at)


def scripts(*, locked: bool) -> ScriptRegistry:
    """The service's own; or with a lock that takes no notice of whoever has it."""
    registry = ScriptRegistry.from_folder()
    if locked:
        return registry
    script = registry["lock_acquire.v2"]
    source = script.source.replace("redis.call('HMGET', KEYS[1], 'token', 'fence')", "{}")
    assert source != script.source
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    changed = replace(script, source=source, sha=sha)
    return ScriptRegistry({**registry, script.id: changed}, FOLDER)


def main(lock_url: str, register_url: str, label: str, file: str, ttl: str, planted: str) -> None:
    orders = set[int]()
    for order in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(order, lambda number, _: orders.add(number))
    topology, options = from_url(lock_url)
    client = ScriptClient(
        purpose="lock", topology=topology, options=options, timeout_s=30, metrics=Metrics()
    )
    store = NotingStore(client, scripts(locked=planted != "unlocked"), holder=label)
    store.diary = Diary(Path(file), label)  # from here on it takes orders
    register = Register(register_url, fenced=planted != "unfenced")
    Worker(store, register, int(ttl), orders).run(label)


if __name__ == "__main__":
    main(*sys.argv[1:7])
