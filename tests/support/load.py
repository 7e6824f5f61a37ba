"""Steady traffic from several threads, and a record of every request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import requests

from tests.support.killed import Killed
from tests.support.waiting import eventually

Send = Callable[[], requests.Response]


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: monotonic seconds of its begin and end, and its status or error's name."""

    began: float
    ended: float
    outcome: int | str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Load(Killed):
    """Calls each of `sends` over and over, each on a thread of its own, until the block ends."""

    def __init__(self, sends: Sequence[Send]) -> None:
        self.sent: list[Sent] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(send,)) for send in sends]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(20)
        return self

    def kill(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, *, timeout_s: float = 60) -> None:
        """Wait until `count` more requests were answered."""
        goal = len(self.sent) + count
        eventually(lambda: len(self.sent) >= goal, timeout_s=timeout_s, what=f"{count} answers")

    def outcomes(self) -> Counter[int | str]:
        return Counter(each.outcome for each in self.sent)

    def _go_on(self, send: Send) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                outcome: int | str = send().status_code
            except requests.RequestException as error:
                outcome = _name(error)
            self.sent.append(Sent(began, time.monotonic(), outcome))
            if isinstance(outcome, str):
                self._ending.wait(0.02)


def _name(error: requests.RequestException) -> str:
    """`refused` where nobody listened (nothing was cut off), else what broke."""
    return "refused" if "refused" in str(error).lower() else f"{type(error).__name__}: {error}"
