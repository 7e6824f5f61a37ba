"""What the users of several processes wrote down, and which of their reads were stale.

A task's versions rise by one with each write, one write at a time; a deletion counts as one more.
So a read that shows a version shows the first moment at which the next one had to be seen, and it
was stale by what had passed since then when it *began*. Times are seconds of CLOCK_MONOTONIC, which
all processes of a machine share.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple


class Write(NamedTuple):
    """One version of a task; also one whose writer was never answered.

    Args:
        version: what it made of the task; 1 is its creation.
        began: when the request was sent.
        since: from when on it is to be seen: acknowledged, or committed; infinite where unknown.
    """

    project: str
    task: str
    version: int
    began: float
    since: float
    deletes: bool = False


class Read(NamedTuple):
    """One answer: the versions of the tasks that it shows.

    Args:
        task: the one that was asked for; None where all of the project were.
        place: the process that answered.
    """

    place: str
    project: str
    task: str | None
    seen: Mapping[str, int]
    began: float
    ended: float


class Shown(NamedTuple):
    """A read showed a version that had been replaced `by_s` seconds before it began."""

    read: Read
    task: str
    version: int
    by_s: float

    def __str__(self) -> str:
        what = f"version {self.version}" if self.version else "nothing"
        return f"{self.read.place} showed {what} of {self.task}, replaced {self.by_s:.6f} s before"


class _Versions:
    """One task's writes, in the order of their versions."""

    def __init__(self, writes: Iterable[Write]) -> None:
        ordered = sorted(writes, key=lambda write: write.version)
        self._numbers = [write.version for write in ordered]
        self._began = [write.began for write in ordered]
        latest_first = accumulate((write.since for write in reversed(ordered)), min)
        # To be seen from then on: this version or one after it.
        self._since = list(latest_first)[::-1]
        self._deletion = next((write for write in ordered if write.deletes), None)

    def replaced_at(self, version: int) -> float:
        following = bisect_right(self._numbers, version)
        return self._since[following] if following < len(self._since) else math.inf

    def missing_in(self, read: Read) -> int:
        """As which version its absence counts: not yet created, or deleted already."""
        gone = self._deletion
        return gone.version if gone is not None and gone.began < read.ended else 0

    def is_ahead(self, version: int, read: Read) -> bool:
        """Whether nobody had begun to write that version when the read ended."""
        at = bisect_right(self._numbers, version) - 1
        return version > 0 and not (
            at >= 0 and self._numbers[at] == version and self._began[at] < read.ended
        )


class History:
    """All writes of a trial; reads are judged by them."""

    def __init__(self, writes: Sequence[Write]) -> None:
        by_task = defaultdict[str, list[Write]](list)
        self._of_project = defaultdict[str, dict[str, None]](dict)
        for write in writes:
            by_task[write.task].append(write)
            self._of_project[write.project][write.task] = None
        self._versions = {task: _Versions(own) for task, own in by_task.items()}

    def stale(self, reads: Iterable[Read], *, bound_s: float = 0.0) -> list[Shown]:
        """Those that showed what had been replaced for longer than `bound_s` when they began."""
        return [shown for read in reads for shown in self._judged(read) if shown.by_s > bound_s]

    def impossible(self, reads: Iterable[Read]) -> list[str]:
        """What was shown before anybody wrote it: a fault of whoever writes such a history."""
        return [
            f"{read.place} showed version {version} of {task}, which nobody had written"
            for read in reads
            for task, version in read.seen.items()
            if task in self._versions and self._versions[task].is_ahead(version, read)
        ]

    def _judged(self, read: Read) -> Iterator[Shown]:
        asked = self._of_project[read.project] if read.task is None else (read.task,)
        for task in asked:
            versions = self._versions[task]
            seen = read.seen.get(task)
            version = versions.missing_in(read) if seen is None else seen
            yield Shown(read, task, version, read.began - versions.replaced_at(version))


def worst_s(shown: Iterable[Shown]) -> float:
    """The greatest staleness, seconds; 0 where nothing was stale."""
    return max((each.by_s for each in shown), default=0.0)
