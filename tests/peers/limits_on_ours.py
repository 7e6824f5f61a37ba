"""Points the tests of the `limits` package at our storage: a pytest plugin for a run of its own.

It is loaded by its bare name: in that run `tests` is the library's package. The library's own
storage takes the same tests beside ours, on the same Valkey, so that a failure of ours is no
failure of this harness. Set `RATES_URL` to that Valkey, which is emptied before every test.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest
import redis
from limits.storage import RedisStorage

from app.api.rate_storage import SCHEME, ScriptStorage
from app.coordination.breaker import Breaker
from app.coordination.client import ScriptClient, from_url
from app.coordination.rate_limit import RedisRates
from app.coordination.scripts import ScriptRegistry
from app.metrics import Metrics

URL = os.environ["RATES_URL"]


def _rates() -> RedisRates:
    """Patient, so that a busy machine is not taken for a lost Redis."""
    topology, options = from_url(URL)
    client = ScriptClient(
        purpose="limiter",
        topology=topology,
        options=options,
        timeout_s=10,
        metrics=Metrics(),
        breaker=Breaker(failures=1_000),
    )
    return RedisRates(client, ScriptRegistry.from_folder())


# What the library's tests are parametrized by, under the names that they use.
STORAGES = {
    "ours": {
        "uri": f"{SCHEME}://",
        "args": {"rates": _rates()},
        "expected_instance": ScriptStorage,
        "fixture": None,
    },
    "the library's": {
        "uri": URL,
        "args": {},
        "expected_instance": RedisStorage,
        "fixture": None,
    },
}


def pytest_configure() -> None:
    """Their list of storages names fixtures through this package, which nothing here needs."""
    stand_in = ModuleType("pytest_lazy_fixtures")
    stand_in.__dict__["lf"] = str
    sys.modules[stand_in.__name__] = stand_in


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Our storages in place of the list that a test was written for."""
    if "fixture" not in metafunc.fixturenames:
        return
    for node in metafunc.definition.listchain():
        node.own_markers = [mark for mark in node.own_markers if mark.name != "parametrize"]
    names = [name for name in STORAGES["ours"] if name in metafunc.fixturenames]
    values = [[storage[name] for name in names] for storage in STORAGES.values()]
    metafunc.parametrize(names, values, ids=list(STORAGES))


@pytest.fixture(autouse=True)
def _emptied() -> None:
    with redis.Redis.from_url(URL) as client:
        client.flushall()
