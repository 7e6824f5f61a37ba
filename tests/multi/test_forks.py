"""A child forked after Redis was used shares neither connections nor threads with its parent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from app.db.migrate import upgrade
from tests.support.redis_servers import Valkey


def faults(valkey: Valkey, *planted: str) -> list[str]:
    return told("forking", valkey.url, *planted)


def told(module: str, *args: str) -> list[str]:
    """What a process that forks says went wrong, or how it died of what it shared."""
    ran = subprocess.run(
        [sys.executable, "-m", f"tests.multi.{module}", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ran.returncode != 0:
        return [f"exit code {ran.returncode}: {ran.stderr}"]
    found: list[str] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_a_child_and_its_parent_go_on_as_if_each_were_alone(valkey: Valkey) -> None:
    assert faults(valkey) == []


def test_sharing_what_was_there_before_would_have_mixed_up_their_answers(valkey: Valkey) -> None:
    """The control of the test above."""
    assert faults(valkey, "shared") != []


def test_rules_and_the_outbox_are_looked_after_in_parent_and_child(
    valkey: Valkey, postgres_url: str
) -> None:
    upgrade(postgres_url)
    assert told("forking_parts", valkey.url, postgres_url) == []


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("LimitRules", "child: the rule"),
        ("Relay", "child: a look at the outbox"),
        ("Database", ""),
    ],
)
def test_a_part_that_did_not_begin_afresh_would_have_stood_still(
    valkey: Valkey, postgres_url: str, part: str, fault: str
) -> None:
    """The controls of the test above."""
    upgrade(postgres_url)
    found = told("forking_parts", valkey.url, postgres_url, part)
    assert any(fault in each for each in found)
