"""What `make run` decides to embed, from nothing but the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.local import Plan
from app.config import Settings
from app.errors import ConfigError


def test_with_nothing_set_everything_is_embedded() -> None:
    plan = Plan.from_env({})
    assert (plan.url, plan.valkey_port) == ("http://127.0.0.1:8000", 6399)
    assert plan.environ["REDIS_URL"] == "redis://127.0.0.1:6399/0"
    assert plan.environ["DATABASE_URL"] == f"sqlite:///{Path('data').absolute()}/taskflow.db"
    assert plan.environ["SCHEDULER_POLL_S"] == "5"


@pytest.mark.parametrize(
    "given",
    [
        {"REDIS_URL": "redis://elsewhere:6379/0"},
        {"REDIS_HOST": "elsewhere"},
        {"REDIS_MODE": "cluster", "REDIS_NODES": "one:7000,two:7000"},
    ],
)
def test_a_given_redis_is_used_and_nothing_is_set_beside_it(given: dict[str, str]) -> None:
    plan = Plan.from_env(given)
    assert plan.valkey_port is None
    assert {name: plan.environ[name] for name in given} == given
    assert plan.environ.get("REDIS_URL") == given.get("REDIS_URL")
    assert "SCHEDULER_POLL_S" not in plan.environ
    assert Settings.from_env(plan.environ).has_redis


def test_a_given_database_and_poll_period_are_kept() -> None:
    given = {"DATABASE_URL": "postgresql://me@here/tasks", "SCHEDULER_POLL_S": "9"}
    plan = Plan.from_env(given)
    assert {name: plan.environ[name] for name in given} == given


def test_the_folder_the_ports_and_the_host_can_be_chosen(tmp_path: Path) -> None:
    given = {"DATA_DIR": str(tmp_path), "PORT": "81", "VALKEY_PORT": "82", "HOST": "0.0.0.0"}
    plan = Plan.from_env(given)
    assert plan.environ["DATABASE_URL"] == f"sqlite:///{tmp_path}/taskflow.db"
    assert (plan.port, plan.valkey_port, plan.host) == (81, 82, "0.0.0.0")
    assert plan.url == "http://127.0.0.1:81"


@pytest.mark.parametrize("variable", ["PORT", "VALKEY_PORT"])
@pytest.mark.parametrize("value", ["0", "65536", "http", "-1", "1.5"])
def test_a_port_that_is_none_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Plan.from_env({variable: value})
    assert str(refused.value) == f"{variable}: got {value!r}, takes a port number, 1 to 65535"


def test_a_number_of_workers_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="WEB_CONCURRENCY: got 'two', takes a whole number"):
        Plan.from_env({"WEB_CONCURRENCY": "two"})


def test_the_other_processes_find_this_python_first() -> None:
    plan = Plan.from_env({"PATH": "/usr/bin"})
    first, rest = plan.environ["PATH"].split(":")
    assert (Path(first) / "python").exists()
    assert rest == "/usr/bin"
