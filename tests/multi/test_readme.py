"""The README's first minute, as it stands, against what `make run` starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.support.child import ROOT
from tests.support.local_run import LocalRun


def test_the_first_minute_works_as_the_readme_has_it(tmp_path: Path) -> None:
    run = LocalRun(tmp_path / "data", 0, {}).wait_until_ready()
    try:
        script = "\n".join(_blocks("## A first minute")).replace(":8000/", f":{run.port}/")
        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**os.environ, "DATA_DIR": str(run.folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        assert run.terminate() == 0
    assert shell.returncode == 0, shell.stderr
    assert '"email":"ada@example.com"' in shell.stdout
    assert re.search(r'^RateLimit: "reads-60s";r=\d+;t=60', shell.stdout, re.MULTILINE)
    assert "overdue: succeeded, 1 rows" in shell.stdout
    (late,) = json.loads(shell.stdout.splitlines()[-1])["items"]
    assert late["title"] == "Pay the rent"
    assert late["overdue_at"] is not None


def _blocks(heading: str) -> list[str]:
    """The shell blocks of one section."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(heading, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
