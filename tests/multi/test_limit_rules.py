"""A rule that an operator sets holds in every process, and none is restarted for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from tests.multi.caller import WHO, Caller
from tests.multi.conftest import Env
from tests.support.child import ROOT
from tests.support.processes import Gunicorn, environment
from tests.support.waiting import eventually


def command(env: Env, *args: str) -> str:
    """What `flask` answers to an operator's command."""
    line = [sys.executable, "-m", "flask", "--app", "wsgi", *args]
    done = subprocess.run(
        line, env=environment(env), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def policies(callers: Sequence[Caller]) -> set[str]:
    return {each.get("/projects").headers["RateLimit-Policy"] for each in callers}


def test_a_rule_set_by_a_command_holds_in_every_process_without_a_restart(
    shared_env: Env, start_gunicorn: Callable[..., Gunicorn]
) -> None:
    first, second = (start_gunicorn(shared_env, workers=1) for _ in range(2))
    here = Caller.register(first.base_url)
    callers = [here, here.at(second.base_url)]
    everybodys = {'"reads-60s";q=1000000;w=60'}
    assert policies(callers) == everybodys

    said = command(shared_env, "limits", "policy", "set", "plan:big", "reads", "7/hour")
    assert said == "plan:big reads: 7/hour\n"
    assert policies(callers) == everybodys  # nobody is on that plan
    command(shared_env, "users", "plan", WHO["email"], "big")
    big = {'"reads-3600s";q=7;w=3600'}
    eventually(lambda: policies(callers) == big, what="the rule in both processes")
