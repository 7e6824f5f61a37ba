"""The web application as a trial of the cache has gunicorn load it.

Of each write that names itself (`X-Trial-Write`), the moment after its commit is noted in the file
TRIAL_COMMITS; with `X-Trial-Kill` the process is killed there, before it has told any cache. That
is all, but for what TRIAL_PLANTED takes out: `untold`, writers tell no cache what they made stale;
`unjudged`, what moved is asked for and not taken in; `unwatched`, nobody looks after the outbox,
and the gate is open all the same.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import pytest
from flask import has_request_context, request

from app import bootstrap
from app.coordination.gate import Gate
from app.coordination.local_cache import Generation, LocalCache, Question
from app.services.changes import Changes, Note
from app.services.relay import Relay

_COMMITS, _PLANTED = os.environ["TRIAL_COMMITS"], os.environ["TRIAL_PLANTED"]


class NotingChanges(Changes):
    def tell(self, notes: Sequence[Note]) -> None:
        if has_request_context():
            _committed(request.headers.get("X-Trial-Write"), time.monotonic())
            if "X-Trial-Kill" in request.headers:
                os.kill(os.getpid(), signal.SIGKILL)
        if _PLANTED != "untold":
            super().tell(notes)


class UnjudgedCache(LocalCache):
    def heard(self, question: Question, reply: Sequence[Any]) -> Generation | None:
        return question.known or super().heard(question, reply)


class UnwatchedRelay(Relay):
    def begin(self) -> None:
        """Nobody looks."""


class OpenGate(Gate):
    @property
    def is_open(self) -> bool:
        return True


def _committed(write: str | None, at: float) -> None:
    """One line in one piece: other processes write to the same file."""
    if write is None:
        return
    file = os.open(_COMMITS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{write} {at!r}\n".encode())
    finally:
        os.close(file)


def _plant() -> None:
    plant = pytest.MonkeyPatch()
    plant.setattr(bootstrap, "Changes", NotingChanges)
    if _PLANTED == "unjudged":
        plant.setattr(bootstrap, "LocalCache", UnjudgedCache)
    elif _PLANTED == "unwatched":
        plant.setattr(bootstrap, "Relay", UnwatchedRelay)
        plant.setattr(bootstrap, "Gate", OpenGate)


_plant()
from wsgi import app  # noqa: E402  built with what is planted

__all__ = ["app"]
