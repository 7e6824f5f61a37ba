"""What can happen to a shared cache and to those who write to it, made one at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.killed import Killed
from tests.support.proxy import Proxy
from tests.support.read_history import Shown, worst_s
from tests.support.read_trial import Trial
from tests.support.readers import Task
from tests.support.redis_servers import Valkey
from tests.support.waiting import eventually

FAULTS = (
    "flush_all",
    # From here until the copy is an old one nothing makes all that is cached a miss.
    "kill_a_writer",
    "flush_scripts",
    "stop_the_server",
    "cut_one_off",
    "restart_from_an_old_copy",
    "fail_over",
)
_PATIENCE_S = 60.0
_DELETIONS = 0.3  # of the writes of those who are killed
_TIMES_READ = 3  # until a process holds a task: whose project's it is, not cached yet, cached


class Faults(Killed):
    """A Valkey that several processes reach, each by a way of its own, and what is done to it.

    Args:
        lasts_s: how long one that is cut off or led astray stays so, seconds; the server is stopped
            for so long at most.
        settles_s: how long the users go on before the next fault, seconds.
    """

    def __init__(self, folder: Path, ways: int, *, lasts_s: float, settles_s: float) -> None:
        self.made: list[tuple[str, float]] = []
        self._folder, self._lasts_s, self._settles_s = folder, lasts_s, settles_s
        self._task: Task | None = None
        self._servers = [Valkey.start(folder / "valkey-0")]
        self.ways = [Proxy.start(self._server.port) for _ in range(ways)]

    def kill(self) -> None:
        for each in [*self.ways, *self._servers]:
            each.kill()

    def make(self, fault: str, trial: Trial) -> None:
        """Make a fault, undo it, and let the users go on for a while."""
        self.made.append((fault, time.monotonic()))
        getattr(self, f"_{fault}")(trial)
        _let_pass(self._settles_s, trial)

    def worst_of_each(self, shown: Sequence[Shown]) -> dict[str, float]:
        """The greatest staleness of the reads that began after a fault and before the next one."""
        worst: dict[str, float] = {}
        ends = [at for _, at in self.made[1:]] + [float("inf")]
        for (fault, begin), end in zip(self.made, ends, strict=True):
            during = (each for each in shown if begin <= each.read.began < end)
            worst[fault] = max(worst.get(fault, 0.0), worst_s(during))
        return worst

    @property
    def _server(self) -> Valkey:
        return self._servers[-1]

    def _kill_a_writer(self, trial: Trial) -> None:
        """Between the commit and the invalidation."""
        task, places = self._known_everywhere(trial), trial.board.places
        place = trial.chance.choice(places)
        write = trial.me.delete if trial.chance.random() < _DELETIONS else trial.me.change
        with trial.avoided(place):
            number = write(place, task, kill=True)
            assert number in trial.diary.commits()
        trial.me.close()

    def _flush_scripts(self, _: Trial) -> None:
        with self._server.client() as client:
            client.script_flush()

    def _flush_all(self, _: Trial) -> None:
        with self._server.client() as client:
            client.flushall()

    def _stop_the_server(self, trial: Trial) -> None:
        task = self._known_everywhere(trial)
        self._server.freeze()
        trial.me.change(trial.chance.choice(trial.board.places), task)
        _let_pass(self._lasts_s * trial.chance.uniform(0.1, 1), trial)
        self._server.thaw()

    def _cut_one_off(self, trial: Trial) -> None:
        task = self._known_everywhere(trial)
        cut_off, elsewhere = trial.chance.sample(range(len(self.ways)), 2)
        self.ways[cut_off].cut()
        trial.me.change(trial.board.places[elsewhere], task)
        _let_pass(self._lasts_s, trial)
        self.ways[cut_off].restore()

    def _fail_over(self, trial: Trial) -> None:
        """To a replica that lost the last writes; one process stays at the old primary for long."""
        link = Proxy.start(self._server.port)
        replica = Valkey.start(self._folder / f"valkey-{len(self._servers)}")
        self._servers.append(replica)
        with replica.client() as client:
            client.replicaof("127.0.0.1", str(link.port))
            eventually(
                lambda: client.info("replication")["master_link_status"] == "up",
                timeout_s=_PATIENCE_S,
                what="the replica to follow",
            )
            link.kill()
            trial.wait_for_reads(100)
            client.replicaof("NO", "ONE")
        task = self._known_everywhere(trial)
        stays, *others = trial.chance.sample(range(len(self.ways)), len(self.ways))
        for each in others:
            self.ways[each].retarget(replica.port)
        trial.me.change(trial.board.places[others[0]], task)
        _let_pass(self._lasts_s, trial)
        self.ways[stays].retarget(replica.port)

    def _restart_from_an_old_copy(self, trial: Trial) -> None:
        with self._server.client() as client:
            task = self._known_everywhere(trial)
            client.save()
        trial.me.change(trial.chance.choice(trial.board.places), task)
        trial.wait_for_reads(100)
        self._server.kill()
        self._server.restart()

    def _known_everywhere(self, trial: Trial) -> Task:
        """A task that all processes hold, that many read, and that nobody else writes for now."""
        if self._task:
            self._task.leave()
        self._task = task = trial.any_task()
        for place in trial.board.places * _TIMES_READ:
            trial.me.read(place, task)
        trial.board.watch(task)
        return task


def _let_pass(seconds: float, trial: Trial) -> None:
    """The users go on for so long: how old what they see can become is the question."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        trial.wait_for_reads(1)
