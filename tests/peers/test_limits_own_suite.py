"""The tests that the `limits` package has for storages of moving windows, run on ours.

They come from its source distribution, of the version that is installed, which pip fetches once and
pytest's cache keeps. `limits_on_ours` puts our storage in the place of theirs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.child import ROOT
from tests.support.need import skip_or_fail
from tests.support.redis_servers import Valkey

# A peer's check, of half a minute and a download: not a part of every run.
pytestmark = pytest.mark.soak

PASSED, SKIPPED = "passed", "skipped"
MOVING_WINDOWS = [
    "tests/test_strategy.py::TestMovingWindow",
    "tests/test_storage.py::TestConcreteStorages",
    "tests/integration/test_concurrency.py::TestConcurrency::test_moving_window",
]
# They count with `incr` or look with `get`, which belong to fixed windows.
OF_COUNTERS = [
    "TestConcreteStorages.test_expiry_acquire_entry",
    "TestConcreteStorages.test_expiry_incr",
    "TestConcreteStorages.test_incr_custom_amount",
    "TestConcreteStorages.test_storage_clear",
    "TestConcreteStorages.test_storage_reset",
]

Outcomes = dict[str, str]


@pytest.fixture(scope="module")
def outcomes(
    valkey_server: Valkey,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Outcomes]:
    """By storage and test: `passed`, `skipped`, or what it failed with."""
    cache = pytestconfig.cache
    kept = cache.mkdir("limits-sdist") if cache else tmp_path_factory.mktemp("limits-sdist")
    folder = tmp_path_factory.mktemp("limits-tests")
    _unpack_tests(_source_distribution(kept), folder)
    return _outcomes(_run(folder, valkey_server.url))


def test_the_moving_window_tests_of_limits_pass_on_our_storage(
    outcomes: Mapping[str, Outcomes],
) -> None:
    ours = {name: each for name, each in outcomes["ours"].items() if name not in OF_COUNTERS}
    skipped = [name for name, each in ours.items() if each == SKIPPED]
    assert skipped == ["TestConcreteStorages.test_expiry_acquire_sliding_window_entry"]
    assert {name: each for name, each in ours.items() if each not in (PASSED, SKIPPED)} == {}
    assert len(ours) == 12


def test_the_tests_that_fail_on_our_storage_ask_it_for_counters(
    outcomes: Mapping[str, Outcomes],
) -> None:
    refusal = "NotImplementedError: every strategy is served by the sliding window"
    assert {name: outcomes["ours"].get(name) for name in OF_COUNTERS} == dict.fromkeys(
        OF_COUNTERS, refusal
    )


def test_all_of_them_pass_on_the_storage_of_the_library_itself(
    outcomes: Mapping[str, Outcomes],
) -> None:
    """The control: what fails on ours is neither this harness's doing nor the server's."""
    theirs = outcomes["the library's"]
    assert theirs.keys() == outcomes["ours"].keys()
    assert theirs == dict.fromkeys(theirs, PASSED)


def _source_distribution(folder: Path) -> Path:
    """The one of the installed version, in `folder`; skips where it cannot be fetched."""
    wanted = f"limits-{version('limits')}.tar.gz"
    if not (folder / wanted).exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
        command += ["--retries", "1", "--no-deps", "--no-binary", "limits", "--dest", str(folder)]
        command += [f"limits=={version('limits')}"]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if fetched.returncode:
            said = fetched.stderr.strip().splitlines()
            skip_or_fail(f"pip cannot fetch {wanted}: {said[-1] if said else 'no reason given'}")
    return folder / wanted


def _unpack_tests(archive: Path, folder: Path) -> None:
    """The tests alone: the library that they test is the installed one."""
    inside = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.name.startswith(f"{inside}/tests/"):
                member.name = member.name.removeprefix(f"{inside}/")
                tar.extract(member, folder, filter="data")
    (folder / "pytest.ini").touch()  # not the configuration of some folder above


def _run(folder: Path, url: str) -> Path:
    """Run them in a process of its own, where `tests` is the library's; returns the report."""
    report = folder / "report.xml"
    env = {name: each for name, each in os.environ.items() if name != "PYTEST_ADDOPTS"}
    env["RATES_URL"] = url
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    # Their conftest.py starts servers in containers.
    options = ["--noconftest", "-p", "limits_on_ours", f"--junit-xml={report}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *MOVING_WINDOWS],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr  # all passed, or some failed
    return report


def _outcomes(report: Path) -> Mapping[str, Outcomes]:
    found: dict[str, Outcomes] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        test, _, storage = case.attrib["name"].removesuffix("]").partition("[")
        name = f"{case.attrib['classname'].rpartition('.')[2]}.{test}"
        found.setdefault(storage, {})[name] = _outcome(case)
    return found


def _outcome(case: ElementTree.Element) -> str:
    for kind in ("failure", "error"):
        if (wrong := case.find(kind)) is not None:
            return wrong.attrib["message"]
    return PASSED if case.find("skipped") is None else SKIPPED
