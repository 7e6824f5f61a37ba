"""A process whose background work has begun, that forks and goes on beside its child.

    python -m tests.multi.forking_parts <redis URL> <database URL> [part...]

Prints one JSON list: what went wrong in the parent and in the child. A named part, such as `Relay`,
is not told that it is in a child.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import NoReturn
from uuid import uuid4

from app import bootstrap
from app.bootstrap import Container
from app.config import Settings
from app.coordination import forks
from app.errors import TaskFlowError
from app.services.actor import Actor
from app.services.limit_rules import Budget, Rule
from tests.support.waiting import eventually

TIMES = 200
HANGS_S = 8  # a process that takes longer never ends
SOON_S = 5


def main(redis_url: str, database_url: str, *planted: str) -> None:
    _leave_out(planted)
    env = {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    container = bootstrap.build(Settings.from_env(env))
    _request(container)
    eventually(lambda: container.gate.is_open, what="the parent's first look")
    read, write = os.pipe()
    child = os.fork()
    who, to = ("parent", sys.stdout.fileno()) if child else ("child", write)
    signal.signal(signal.SIGALRM, lambda *_: _end(to, [f"{who}: it hung"]))
    signal.alarm(HANGS_S)
    faults = _faults(container, who)
    signal.alarm(0)
    if child:
        os.close(write)
        with os.fdopen(read) as told:
            faults += json.loads(told.read() or '["the child said nothing"]')
        os.waitpid(child, 0)
    _end(to, faults)


def _end(to: int, faults: list[str]) -> NoReturn:
    """Says it and is gone at once: with parts planted, an orderly end may hang."""
    os.write(to, json.dumps(faults).encode())
    os._exit(0)


def _leave_out(planted: tuple[str, ...]) -> None:
    in_child = forks.in_child

    def unless_planted(part: forks.BeginsAfresh) -> None:
        if type(part).__name__ not in planted:
            in_child(part)

    vars(forks)["in_child"] = unless_planted


def _request(container: Container, plan: str = "standard") -> str | None:
    """What each request asks of the parts: begins their work, where it has not begun."""
    container.relay.begin()
    actor = Actor(account_id=uuid4(), session_id=None, role="user", plan=plan)
    return container.limit_rules.limits_of(actor, Budget.READS)


def _faults(container: Container, who: str) -> list[str]:
    """It sees a new rule, looks at the outbox, and reads its own answers from the database."""
    began, faults = time.monotonic(), []
    try:
        for number in range(TIMES):
            with container.db.read() as session:
                mine = f"{who}:{number}"
                said = session.connection().exec_driver_sql(f"SELECT '{mine}'").scalar()
            if said != mine:
                faults.append(f"{who}: {said!r} in place of {mine!r}")
        _request(container)
        container.limit_rules.set(Rule(f"plan:{who}", "reads", "7/hour"))
        eventually(lambda: _request(container, who) == "7/hour", timeout_s=SOON_S, what="the rule")
        eventually(
            lambda: (container.gate.age_s or 1e9) < time.monotonic() - began,
            timeout_s=SOON_S,
            what="a look at the outbox",
        )
    except (TaskFlowError, AssertionError) as error:
        faults.append(f"{who}: {error}")
    except Exception as error:
        faults.append(f"{who}: {error!r}")
    return faults


if __name__ == "__main__":
    main(*sys.argv[1:])
