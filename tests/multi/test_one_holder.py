"""One holder, whoever is killed or stopped: eight processes, one name, a register with a fence.

All that they do is noted as it happens and judged afterwards (`tests.support.lock_history`). What
the judge finds without the fence, and without the lock, is shown by taking them out.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from app.coordination import keys
from tests.multi.lock_worker import NAME, Register
from tests.support.child import ROOT, Child
from tests.support.lock_history import Event, Kind, beliefs, read, violations
from tests.support.processes import environment
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

PROCESSES, ACQUISITIONS, MANY = 8, 10_000, 100_000
FEW_PROCESSES, FEW = 4, 500
TTL_MS, LONG_MS = 300, 30_000
FAULTS = {
    "kill_the_holder": 5,
    "kill_anybody": 5,
    "stop_the_holder": 5,
    "stop_before_a_write": 5,
    "keep_beyond_the_first_end": 4,
}
_PATIENCE_S = 60.0
_LEASE = keys.lock(NAME).lease


class Trial:
    """Processes that pass one lock on, and what is done to them."""

    def __init__(
        self, valkey: Valkey, register: Valkey, folder: Path, *, ttl_ms: int, planted: str
    ) -> None:
        self.register, self.faults = Register(register.url), Counter[str]()
        self.stopped: dict[str, list[int]] = {}
        self._valkey: Any = valkey.client()
        self._folder, self._numbers = folder, count()
        self._urls, self._options = (valkey.url, register.url), (str(ttl_ms), planted)
        self._workers: dict[str, Child] = {}

    def begin(self, processes: int, acquisitions: int, *, with_a_stop: bool) -> None:
        """Start the processes, and let all of them go at once; one stops before its first write."""
        self.register.add_tickets(acquisitions)
        labels = [self._start() for _ in range(processes)]
        eventually(
            lambda: self.register.waiting() == processes,
            timeout_s=_PATIENCE_S,
            what=f"{processes} processes at the start",
        )
        if with_a_stop:
            self._workers[labels[0]].send(signal.SIGUSR1)
        self.register.start()
        if with_a_stop:
            self._see_through_the_write(labels[0])

    def make(self, fault: str, chance: random.Random) -> None:
        """Make a fault, and wait until it has had its effect."""
        getattr(self, f"_{fault}")(chance)
        self.faults[fault] += 1

    def wait_for(self, writes: int) -> None:
        wait_s = _PATIENCE_S + writes / 10
        eventually(lambda: self.register.count() >= writes, timeout_s=wait_s, what="more writes")

    def end(self) -> list[Event]:
        """Wait until the tickets are used up, and return what all processes noted."""
        for worker in self._workers.values():
            assert worker.wait(timeout_s=1_000) == 0
        files = sorted(self._folder.glob("*.history"))
        return [event for file in files for event in read(file.read_text())]

    def granted(self) -> int:
        """How often the server has granted the lock, whether or not somebody lived to know."""
        return int(self._valkey.info("commandstats")["cmdstat_hset"]["calls"])

    def close(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._valkey.close()
        self.register.close()

    def _kill_the_holder(self, _: random.Random) -> None:
        self._replace(self._freeze_the_holder()[0])

    def _kill_anybody(self, chance: random.Random) -> None:
        self._replace(chance.choice(sorted(self._workers)))

    def _stop_the_holder(self, _: random.Random) -> None:
        label, fence = self._freeze_the_holder()
        self._see_through("stop_the_holder", label, fence)

    def _stop_before_a_write(self, chance: random.Random) -> None:
        label = self._anybody(chance)
        self._workers[label].send(signal.SIGUSR1)
        self._see_through_the_write(label)

    def _keep_beyond_the_first_end(self, chance: random.Random) -> None:
        self._order(self._anybody(chance), signal.SIGUSR2, lambda event: event.kind is Kind.KEPT)

    def _see_through_the_write(self, label: str) -> None:
        self._wait_until_stopped(label)
        self._see_through("stop_before_a_write", label, self._noted(label)[-1].fence)

    def _see_through(self, fault: str, label: str, fence: int) -> None:
        """Let a stopped one go on behind its followers, and wait until it has found out."""
        self.stopped.setdefault(fault, []).append(fence)
        # So many that one at least has begun after the stop, even where nothing locks.
        enough = self.register.count() + PROCESSES
        eventually(
            lambda: self.register.count() >= enough and self.register.newest() > fence,
            timeout_s=_PATIENCE_S,
            what="the take-over",
        )
        ended = (Kind.LOST, Kind.RELEASED)
        self._order(label, signal.SIGCONT, lambda e: e.fence == fence and e.kind in ended)

    def _order(self, label: str, order: signal.Signals, told: Callable[[Event], bool]) -> None:
        """Send a signal, and wait until the process has noted what it did then."""
        before = self._file(label).stat().st_size
        self._workers[label].send(order)
        eventually(
            lambda: any(map(told, self._noted(label, before))),
            timeout_s=_PATIENCE_S,
            what=f"{order.name}'s effect",
        )

    def _freeze_the_holder(self) -> tuple[str, int]:
        """Stop a process that has the lock, and has not sent its release."""
        while True:
            label, fence = self._holder()
            self._workers[label].freeze()
            self._wait_until_stopped(label)
            # What it had sent has been done when the first of two questions is answered.
            if [self._lease(), self._lease()][1] == (label, fence):
                return label, fence
            self._workers[label].thaw()

    def _wait_until_stopped(self, label: str) -> None:
        pid, how = self._workers[label].pid, os.WSTOPPED | os.WNOHANG
        eventually(
            lambda: os.waitid(os.P_PID, pid, how) is not None,
            timeout_s=_PATIENCE_S,
            what=f"the stop of {label}",
        )

    def _holder(self) -> tuple[str, int]:
        """Wait until a process that is alive has the lock."""
        found = eventually(
            lambda: lease if (lease := self._lease())[0] in self._workers else None,
            timeout_s=_PATIENCE_S,
            what="a holder",
        )
        assert found is not None
        return found

    def _lease(self) -> tuple[str, int]:
        holder, fence = self._valkey.hmget(_LEASE, "holder", "fence")
        return holder or "", int(fence or 0)

    def _replace(self, label: str) -> None:
        """Kill a process; another one gets its ticket, if it had taken one and not the lock."""
        self._workers.pop(label).kill()
        self.register.count()  # what it had sent has been done when this is answered
        granted = sum(event.kind is Kind.GRANTED for event in self._noted(label))
        unused = self.register.tickets_of(label) - granted
        assert unused in (0, 1)
        self.register.add_tickets(unused)
        self._start()

    def _start(self) -> str:
        label = f"worker-{next(self._numbers)}"
        command: list[str | Path] = [sys.executable, "-m", "tests.multi.lock_worker"]
        command += [*self._urls, label, self._file(label), *self._options]
        output = self._folder / f"{label}.log"
        self._workers[label] = Child(label, command, output=output, env=environment({}), cwd=ROOT)
        return label

    def _anybody(self, chance: random.Random) -> str:
        """One that takes orders: it does so from when there is its file."""
        return chance.choice([each for each in sorted(self._workers) if self._file(each).exists()])

    def _file(self, label: str) -> Path:
        return self._folder / f"{label}.history"

    def _noted(self, label: str, begin: int = 0) -> list[Event]:
        """What a process has noted beyond the first `begin` bytes."""
        file = self._file(label)
        return read(file.read_bytes()[begin:].decode()) if file.exists() else []


Start = Callable[..., Trial]


@pytest.fixture(scope="module")
def register_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Where the register is: nothing is ever done to this one."""
    with Valkey.start(tmp_path_factory.mktemp("register")) as server:
        yield server


@pytest.fixture
def start(valkey: Valkey, register_server: Valkey, tmp_path: Path) -> Iterator[Start]:
    trials: list[Trial] = []

    def started(
        processes: int, acquisitions: int, *, planted: str = "", ttl_ms: int = TTL_MS
    ) -> Trial:
        trials.append(Trial(valkey, register_server, tmp_path, ttl_ms=ttl_ms, planted=planted))
        trials[-1].begin(processes, acquisitions, with_a_stop=bool(planted))
        return trials[-1]

    register_server.reset()
    with valkey.client() as raw:
        raw.config_resetstat()
    yield started
    for trial in trials:
        trial.close()


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("acquisitions", "times"), [(ACQUISITIONS, 1), pytest.param(MANY, 10, marks=pytest.mark.soak)]
)
def test_nobody_holds_or_writes_beside_another_whoever_is_killed_or_stopped(
    start: Start, acquisitions: int, times: int
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chance, planned = random.Random(seed), {fault: n * times for fault, n in FAULTS.items()}
    faults = [fault for fault, n in planned.items() for _ in range(n)]
    chance.shuffle(faults)
    moments = sorted(chance.sample(range(acquisitions // 50, acquisitions * 9 // 10), len(faults)))
    trial = start(PROCESSES, acquisitions)
    for moment, fault in zip(moments, faults, strict=True):
        trial.wait_for(moment)
        trial.make(fault, chance)
    events, written = trial.end(), trial.register.written()

    assert violations(events, written) == []
    assert trial.faults == planned
    kinds = Counter(event.kind for event in events)
    assert kinds[Kind.GRANTED] == acquisitions
    # Who was killed may have been granted the lock, or accepted a write, without living to know.
    kills = planned["kill_the_holder"] + planned["kill_anybody"]
    assert 0 <= trial.granted() - acquisitions <= kills
    assert 0 <= len(written) - kinds[Kind.ACCEPTED] <= kills
    assert written[-1].value == len(written)
    for fault in ("stop_the_holder", "stop_before_a_write"):
        assert len(trial.stopped[fault]) == planned[fault]
        assert all(Kind.LOST in _told_of(fence, events) for fence in trial.stopped[fault])
    for fence in trial.stopped["stop_before_a_write"]:
        assert Kind.REFUSED in _told_of(fence, events)
    kept = {event.fence for event in events if event.kind is Kind.KEPT}
    assert len(kept) == planned["keep_beyond_the_first_end"]
    assert kept <= {each.fence for each in beliefs(events) if each.lasted_s > TTL_MS / 1000}


def test_without_the_fence_a_stopped_holder_writes_over_what_its_followers_wrote(
    start: Start,
) -> None:
    """A control of the test above: the lock is the same, the register accepts every write."""
    trial = start(FEW_PROCESSES, FEW, planted="unfenced")
    found = violations(trial.end(), trial.register.written())
    (fence,) = trial.stopped["stop_before_a_write"]
    assert any(f"accepted out of order: fence {fence} after" in each for each in found)
    assert any("lost an update" in each for each in found)
    assert not any("both held" in each for each in found)


def test_without_the_lock_there_is_more_than_one_holder(start: Start) -> None:
    """The other control: the lock is granted whoever has it; only the register protects itself."""
    trial = start(FEW_PROCESSES, FEW, planted="unlocked", ttl_ms=LONG_MS)
    found = violations(trial.end(), trial.register.written())
    (fence,) = trial.stopped["stop_before_a_write"]
    assert any(f"fence {fence} of" in each for each in found)
    assert all("both held the lock" in each for each in found)


def _told_of(fence: int, events: list[Event]) -> set[Kind]:
    return {event.kind for event in events if event.fence == fence}
