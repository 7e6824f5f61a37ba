"""A child forked after Redis was used shares neither connections nor threads with its parent."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.redis_servers import Valkey


def faults(valkey: Valkey, *planted: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.multi.forking", valkey.url, *planted],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return told


def test_a_child_and_its_parent_go_on_as_if_each_were_alone(valkey: Valkey) -> None:
    assert faults(valkey) == []


def test_sharing_what_was_there_before_would_have_mixed_up_their_answers(valkey: Valkey) -> None:
    """The control of the test above."""
    assert faults(valkey, "shared") != []
