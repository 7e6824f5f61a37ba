"""Settings: what is taken, and the one line for what is not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from app.config import DEFAULT_SECRET_KEY, Settings
from app.errors import ConfigError
from tests.support.child import ROOT


def test_nothing_set_means_an_embedded_database_and_no_redis() -> None:
    settings = Settings.from_env({})
    assert settings.database_url == "sqlite:///data/taskflow.db"
    assert settings.has_redis is False
    assert settings.coordination_url is None


def test_every_variable_is_in_the_operators_manual() -> None:
    manual = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    names = [str(field.alias) for field in Settings.model_fields.values()]
    assert [name for name in names if f"`{name}`" not in manual] == []


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({"REDIS_URL": "", "REDIS_PORT": ""}).redis_port == 6379


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.from_env({}).redis_port = 1  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"REDIS_PORT": "abc"}, "REDIS_PORT: got 'abc', takes a port number, 1 to 65535"),
        ({"REDIS_PORT": "70000"}, "REDIS_PORT: got '70000', takes a port number, 1 to 65535"),
        ({"REDIS_TLS": "perhaps"}, "REDIS_TLS: got 'perhaps', takes true or false"),
        ({"DB_POOL_SIZE": "0"}, "DB_POOL_SIZE: got '0', takes a whole number, 1 to 200"),
        ({"REDIS_MODE": "ring"}, "REDIS_MODE: got 'ring', takes standalone, sentinel or cluster"),
        ({"APP_ENV": "staging"}, "APP_ENV: got 'staging', takes development or production"),
        (
            {"RATE_LIMIT_READS": "lots"},
            "RATE_LIMIT_READS: got 'lots', takes limits joined by ';', "
            "such as 300/minute;5000/hour",
        ),
        (
            {"DATABASE_URL": "mysql://db/x"},
            "DATABASE_URL: got 'mysql://db/x', takes sqlite:///file or postgresql://user@host/name",
        ),
        ({"REDIS_MODE": "cluster"}, "REDIS_NODES: got nothing, takes host:port,host:port,… while"),
        (
            {"REDIS_NODES": "a:1"},
            "REDIS_NODES: got 'a:1', takes nothing while REDIS_MODE is standalone",
        ),
        (
            {"REDIS_URL": "redis://a", "REDIS_HOST": "b"},
            "REDIS_HOST: got 'b', takes nothing while REDIS_URL is set",
        ),
        (
            {"APP_ENV": "production"},
            "SECRET_KEY: got nothing, or the default, takes at least 32 random characters",
        ),
    ],
)
def test_a_wrong_value_names_the_variable_what_it_got_and_what_it_takes(
    environ: dict[str, str], line: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(environ)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://h:99999/db"),
        ("DATABASE_URL", " postgresql://h/db"),
        ("DATABASE_URL", "postgresql:u:p@h"),
        ("DATABASE_URL", "sqlite:x.db"),
        ("CORS_ORIGINS", "example.com"),
        ("CORS_ORIGINS", "https://example.com/"),
        ("CORS_ORIGINS", "*,https://example.com"),
        ("REDIS_URL", "redis://h:port"),
        ("REDIS_URL", "redis://h:99999"),
        ("REDIS_URL", "redis://h/db"),
        ("REDIS_URL", "unix://"),
        ("SECRET_KEY", " " * 40),
        ("SMTP_URL", "http://mail.example.com"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://mail.example.com:0"),
        ("MAIL_FROM", "a@b\nBcc: c@d"),
        ("PASSWORDS_AT_ONCE", "0"),
        ("RATE_LIMIT_READS", "5/0 minute"),
        ("RATE_LIMIT_READS", "5/99999999999 year"),
        ("RATE_LIMIT_READS", "5/minute;5/minute"),
        ("RATE_LIMIT_READS", "5/minute;9/hour; 5 per 1 minutes shadow"),
    ],
)
def test_what_could_not_serve_does_not_start(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({variable: value})
    assert refused.value.variable == variable


@pytest.mark.parametrize("node", ["h", "h:", ":1", "h:0", "h:70000", "h:²"])
def test_a_node_without_a_real_port_does_not_start(node: str) -> None:
    with pytest.raises(ConfigError, match="REDIS_NODES: got"):
        Settings.from_env({"REDIS_MODE": "cluster", "REDIS_NODES": node})


@pytest.mark.parametrize("variable", ["REDIS_PASSWORD", "REDIS_USERNAME", "REDIS_TLS"])
def test_a_part_beside_the_url_is_refused_and_not_ignored(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}: got .* takes nothing while REDIS_URL"):
        Settings.from_env({"REDIS_URL": "redis://h", variable: "true"})


@pytest.mark.parametrize(
    "url",
    [
        "postgres://h/db?user=u&password=hunter2",
        "postgres://u:hun@hunter2@h/db",
        "mysql://u:hunter2/x@h/db",
        "rdis:u:hunter2@h",
    ],
)
def test_no_error_shows_a_part_of_a_urls_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"DATABASE_URL": url})
    assert "hunter2" not in str(refused.value)


def test_no_error_shows_a_secret() -> None:
    with pytest.raises(ConfigError) as short:
        Settings.from_env({"SECRET_KEY": "hunter2"})
    assert str(short.value) == "SECRET_KEY: got 7 characters, takes at least 32 random characters"
    with pytest.raises(ConfigError) as url:
        Settings.from_env({"REDIS_URL": "http://user:hunter2@host"})
    assert "hunter2" not in str(url.value)


THREE = "redis://a,redis://b,redis://c"
LOCKS_TAKES = "three or more URLs of independent servers, joined by ','"


@pytest.mark.parametrize(
    ("urls", "servers"),
    [
        (THREE, ("redis://a", "redis://b", "redis://c")),
        (
            "redis://h:1,redis://h:2,rediss://h:3/7",
            ("redis://h:1", "redis://h:2", "rediss://h:3/7"),
        ),
        ("unix:///a,unix:///b,unix:///c", ("unix:///a", "unix:///b", "unix:///c")),
        ("redis://u:p,w@a,redis://b,redis://c", ("redis://u:p,w@a", "redis://b", "redis://c")),
    ],
)
def test_three_different_servers_may_keep_the_locks(urls: str, servers: tuple[str, ...]) -> None:
    settings = Settings.from_env({"REDIS_URL": "redis://a", "LOCK_REDIS_URLS": urls})
    assert settings.lock_urls == servers


def test_where_no_servers_are_named_one_redis_keeps_the_locks() -> None:
    assert Settings.from_env({"REDIS_URL": "redis://a"}).lock_urls == ()


@pytest.mark.parametrize(
    "urls",
    [
        "redis://a",
        "redis://a,redis://b",
        "redis://a,redis://b,redis://c,",
        "redis://a,b:6379,redis://c,redis://d",
        "redis://a, redis://b, redis://c",
        "redis://a,http://b,redis://c",
        "redis://a,redis://b,redis://c:0",
        "redis://a,redis://b,redis://c/db",
    ],
)
def test_what_is_no_list_of_three_servers_is_shown_as_it_was_given(urls: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"REDIS_URL": "redis://a", "LOCK_REDIS_URLS": urls})
    assert str(refused.value) == f"LOCK_REDIS_URLS: got {urls!r}, takes {LOCKS_TAKES}"


@pytest.mark.parametrize(
    "twice",
    [
        ("redis://a", "redis://a"),
        ("redis://a", "redis://A"),
        ("redis://a", "redis://a:6379"),
        ("redis://a", "rediss://a"),
        ("redis://a/0", "redis://a/1"),
        ("redis://ann:one@a:7", "redis://bob:two@a:7"),
        ("redis://a:7", "redis://a:7?db=2"),
        ("unix:///a", "unix:///a?db=2"),
    ],
)
def test_one_server_under_two_spellings_has_one_vote(twice: tuple[str, str]) -> None:
    urls = ",".join([*twice, "redis://b", "redis://c"])
    with pytest.raises(ConfigError, match="takes three or more URLs of independent servers"):
        Settings.from_env({"REDIS_URL": "redis://a", "LOCK_REDIS_URLS": urls})


def test_locks_by_majority_need_a_redis_for_the_rest() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"LOCK_REDIS_URLS": THREE})
    told = f"LOCK_REDIS_URLS: got {THREE!r}, takes nothing while no REDIS_URL is set"
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@h",
        "redis://user:hunter2@h:1/db",
        "redis://user:un,hunter2@h",
        "redis://user:hunter2,un@h",
        "redis://user:un?hunter2@h",
        "redis://h?password=hunter2",
        "redis://h?password=un@hunter2",
        "redis://h?password=hunter2@un",
        "user:hunter2@h",
        " redis://user:hunter2@h",
    ],
)
@pytest.mark.parametrize("urls", ["{}", "{},redis://b", "redis://b,{}", "{},redis://b,redis://b"])
def test_no_error_shows_a_password_of_the_lock_servers(url: str, urls: str) -> None:
    for redis_url in ("", "redis://a"):
        with pytest.raises(ConfigError) as refused:
            Settings.from_env({"REDIS_URL": redis_url, "LOCK_REDIS_URLS": urls.format(url)})
        assert refused.value.variable == "LOCK_REDIS_URLS"
        assert "hunter2" not in str(refused.value)


def test_production_takes_a_secret_of_its_own() -> None:
    settings = Settings.from_env({"APP_ENV": "production", "SECRET_KEY": "x" * 32})
    assert settings.secret_key != DEFAULT_SECRET_KEY


def test_host_and_password_make_the_same_url_as_redis_url() -> None:
    parts = {
        "REDIS_HOST": "cache.internal",
        "REDIS_PORT": "6380",
        "REDIS_USERNAME": "app",
        "REDIS_PASSWORD": "p@ss/word",
        "REDIS_TLS": "true",
    }
    url = "rediss://app:p%40ss%2Fword@cache.internal:6380/0"
    assert Settings.from_env(parts).coordination_url == url
    assert Settings.from_env({"REDIS_URL": url}).coordination_url == url


def test_the_label_is_the_hosts_name_unless_given() -> None:
    assert Settings.from_env({"INSTANCE_ID": "web-7"}).label == "web-7"
    assert Settings.from_env({}).label != ""
