"""Every setting, read once from the environment and checked before anything starts.

`Settings.from_env()` is the only reader of the environment. A wrong value raises
`ConfigError`, whose one line names the variable, what it got and what it takes.
Units are in the names: `_MS` is milliseconds, `_S` seconds, `_BYTES` bytes.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from app.config_values import (
    LIMITS_TAKES,
    REDIS_URL_TAKES,
    DatabaseUrl,
    LimitList,
    NetworkList,
    Node,
    NodeList,
    OriginList,
    RedisUrl,
    RedisUrlList,
    SmtpUrl,
    listed,
)
from app.errors import ConfigError

DEFAULT_SECRET_KEY = "development-only-secret-key-change-me"
_SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN")


def _var(name: str, default: Any, takes: str, **checks: Any) -> Any:
    """One variable: its name in the environment, its default, and the words for what it takes."""
    return Field(default, alias=name, description=takes, **checks)


def _ms(name: str, default: int, *, most: int = 60_000) -> Any:
    return _var(name, default, f"whole milliseconds, 1 to {most}", ge=1, le=most)


def _seconds(name: str, default: int, *, most: int = 31_536_000) -> Any:
    return _var(name, default, f"whole seconds, 1 to {most}", ge=1, le=most)


class Settings(BaseModel):
    """What one process runs with. Frozen: pass it on, never read the environment again."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    app_env: Literal["development", "production"] = _var(
        "APP_ENV", "development", "development or production"
    )
    secret_key: Annotated[str, StringConstraints(strip_whitespace=True)] = _var(
        "SECRET_KEY", DEFAULT_SECRET_KEY, "at least 32 random characters", min_length=32
    )
    instance_label: str = _var(
        "INSTANCE_ID",
        "",
        "a label of 1 to 64 letters, digits, dots, dashes or underscores",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
    )
    log_level: Literal["debug", "info", "warning", "error"] = _var(
        "LOG_LEVEL", "info", "debug, info, warning or error"
    )

    prometheus_multiproc_dir: str | None = _var(
        "PROMETHEUS_MULTIPROC_DIR", None, "a folder that the web workers share"
    )

    database_url: DatabaseUrl = _var(
        "DATABASE_URL",
        "sqlite:///data/taskflow.db",
        "sqlite:///file or postgresql://user@host/name",
    )
    db_pool_size: int = _var("DB_POOL_SIZE", 6, "a whole number, 1 to 200", ge=1, le=200)
    db_pool_timeout_ms: int = _ms("DB_POOL_TIMEOUT", 2_000)

    redis_url: RedisUrl | None = _var("REDIS_URL", None, REDIS_URL_TAKES)
    redis_host: str | None = _var("REDIS_HOST", None, "a host name or address", min_length=1)
    redis_port: int = _var("REDIS_PORT", 6379, "a port number, 1 to 65535", ge=1, le=65_535)
    redis_username: str | None = _var("REDIS_USERNAME", None, "the name of an ACL user")
    redis_password: str | None = _var("REDIS_PASSWORD", None, "that user's password")
    redis_tls: bool = _var("REDIS_TLS", False, "true or false")
    redis_mode: Literal["standalone", "sentinel", "cluster"] = _var(
        "REDIS_MODE", "standalone", "standalone, sentinel or cluster"
    )
    redis_nodes: NodeList | None = _var(
        "REDIS_NODES", None, "host:port,host:port,… of the sentinels or of some cluster nodes"
    )
    redis_sentinel_service: str = _var(
        "REDIS_SENTINEL_SERVICE", "mymaster", "the name that the sentinels watch", min_length=1
    )
    cache_redis_url: RedisUrl | None = _var("CACHE_REDIS_URL", None, REDIS_URL_TAKES)
    lock_redis_urls: RedisUrlList | None = _var(
        "LOCK_REDIS_URLS", None, "three or more URLs of independent servers, joined by ','"
    )
    queue_redis_url: RedisUrl | None = _var("QUEUE_REDIS_URL", None, REDIS_URL_TAKES)

    limiter_timeout_ms: int = _ms("LIMITER_TIMEOUT_MS", 50)
    cache_timeout_ms: int = _ms("CACHE_TIMEOUT_MS", 75)
    lock_timeout_ms: int = _ms("LOCK_TIMEOUT_MS", 250)
    request_redis_budget_ms: int = _ms("REQUEST_REDIS_BUDGET_MS", 120)
    redis_max_connections: int = _var(
        "REDIS_MAX_CONNECTIONS", 64, "a whole number, 1 to 10000 for each purpose", ge=1, le=10_000
    )

    limit_reads: LimitList = _var("RATE_LIMIT_READS", "600/minute;20000/hour", LIMITS_TAKES)
    limit_writes: LimitList = _var("RATE_LIMIT_WRITES", "120/minute;3000/hour", LIMITS_TAKES)
    limit_batch: LimitList = _var("RATE_LIMIT_BATCH", "1000/minute;20000/hour", LIMITS_TAKES)
    limit_login: LimitList = _var("RATE_LIMIT_LOGIN", "20/minute;200/hour", LIMITS_TAKES)
    limit_login_account: LimitList = _var(
        "RATE_LIMIT_LOGIN_ACCOUNT", "10/minute;50/hour", LIMITS_TAKES
    )
    limits_on_loss: Literal["open", "local", "closed"] = _var(
        "RATELIMIT_ON_LOSS", "open", "open, local or closed"
    )
    trusted_proxies: NetworkList | None = _var(
        "TRUSTED_PROXIES", None, "networks joined by ',', such as 10.0.0.0/8,192.168.1.7"
    )
    cors_origins: OriginList | None = _var(
        "CORS_ORIGINS", None, "origins joined by ',', such as https://app.example.com, or *"
    )

    passwords_at_once: int = _var("PASSWORDS_AT_ONCE", 4, "a whole number, 1 to 64", ge=1, le=64)
    smtp_url: SmtpUrl | None = _var(
        "SMTP_URL", None, "smtp://user:password@host:port, or smtps://… for TLS from the start"
    )
    mail_from: str = _var(
        "MAIL_FROM", "taskflow@localhost", "an e-mail address", pattern=r"^[^\s@<>]+@[^\s@<>]+$"
    )
    access_ttl_s: int = _seconds("ACCESS_TTL_S", 3_600)
    session_ttl_s: int = _seconds("SESSION_TTL_S", 30 * 86_400)
    cache_ttl_s: int = _seconds("CACHE_TTL_S", 300, most=3_600)
    max_body_bytes: int = _var(
        "MAX_BODY_BYTES", 1_048_576, "whole bytes, 1024 to 104857600", ge=1_024, le=104_857_600
    )

    sweep_period_s: int = _seconds("OVERDUE_SWEEP_PERIOD_S", 3_600)
    sweep_lock_ttl_s: int = _seconds("OVERDUE_SWEEP_LOCK_TTL_S", 600)
    sweep_missed: Literal["latest", "all", "skip"] = _var(
        "OVERDUE_SWEEP_MISSED", "latest", "latest, all or skip"
    )
    sweep_grace_s: int = _seconds("OVERDUE_SWEEP_GRACE_S", 86_400)
    sweep_batch: int = _var(
        "OVERDUE_SWEEP_BATCH", 1_000, "a whole number, 1 to 10000", ge=1, le=10_000
    )
    scheduler_poll_s: int = _seconds("SCHEDULER_POLL_S", 15, most=3_600)
    scheduler_metrics: Node | None = _var(
        "SCHEDULER_METRICS",
        None,
        "host:port to serve them on, such as 127.0.0.1:9133 or [::1]:9133",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `environ` (the process's own by default); an empty value counts as not set.

        Raises:
            ConfigError: for the first variable that is wrong or missing.
        """
        source = os.environ if environ is None else environ
        known = {str(field.alias): field for field in cls.model_fields.values()}
        given = {name: source[name] for name in known if source.get(name)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            variable = str(error.errors(include_url=False)[0]["loc"][0])
            takes = known[variable].description or "another value"
            raise ConfigError(variable, _shown(variable, given[variable]), takes) from None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.redis_url:
            self._refuse_beside_url()
        if self.redis_mode != "standalone" and not self.redis_nodes:
            takes = f"host:port,host:port,… while REDIS_MODE is {self.redis_mode}"
            raise ConfigError("REDIS_NODES", "nothing", takes)
        if self.redis_mode == "standalone" and self.redis_nodes:
            takes = "nothing while REDIS_MODE is standalone; set it to sentinel or cluster"
            raise ConfigError("REDIS_NODES", repr(self.redis_nodes), takes)
        if self.lock_redis_urls and not self.has_redis:
            shown = _shown("LOCK_REDIS_URLS", self.lock_redis_urls)
            raise ConfigError("LOCK_REDIS_URLS", shown, "nothing while no REDIS_URL is set")
        if self.app_env == "production" and self.secret_key == DEFAULT_SECRET_KEY:
            takes = "at least 32 random characters while APP_ENV is production"
            raise ConfigError("SECRET_KEY", "nothing, or the default", takes)
        return self

    def _refuse_beside_url(self) -> None:
        """REDIS_URL says it all: a part given beside it would be ignored, TLS and password too."""
        beside = {
            "REDIS_HOST": self.redis_host,
            "REDIS_USERNAME": self.redis_username,
            "REDIS_PASSWORD": self.redis_password,
            "REDIS_TLS": self.redis_tls,
            "REDIS_NODES": self.redis_nodes,
        }
        for variable, value in beside.items():
            if value:
                shown = _shown(variable, str(value))
                raise ConfigError(variable, shown, "nothing while REDIS_URL is set")

    @property
    def coordination_url(self) -> str | None:
        """The URL of the standalone coordination Redis, or None where there is none."""
        if self.redis_url or not self.redis_host:
            return self.redis_url
        scheme = "rediss" if self.redis_tls else "redis"
        user, password = quote(self.redis_username or ""), quote(self.redis_password or "", safe="")
        login = f"{user}:{password}@" if user or password else ""
        return f"{scheme}://{login}{self.redis_host}:{self.redis_port}/0"

    @property
    def lock_urls(self) -> tuple[str, ...]:
        """The independent servers that keep locks by majority; empty where one Redis keeps them."""
        return tuple(listed(self.lock_redis_urls)) if self.lock_redis_urls else ()

    @property
    def has_redis(self) -> bool:
        """Whether any coordination Redis is configured; without one, memory serves one process."""
        return self.redis_mode != "standalone" or self.coordination_url is not None

    @property
    def label(self) -> str:
        """The name that operators know this instance by: `INSTANCE_ID`, or the host's name."""
        return self.instance_label or socket.gethostname()


def _shown(variable: str, value: str) -> str:
    """The value as an error may show it: never a secret, never a URL's password."""
    if _SECRET_NAMES.search(variable):
        return f"{len(value)} characters"
    if variable == "LOCK_REDIS_URLS":
        return repr(",".join(map(shown_url, listed(value))))
    return repr(shown_url(value))


def shown_url(url: str) -> str:
    """The URL as far as it can hold no password: without user, password and query."""
    start, separator, rest = url.partition("://")
    if not separator:
        return url if "@" not in url else "***"
    login, _, place = rest.rpartition("@")
    if "?" in login:  # a query with an "@" in it, or a password with a "?"
        return f"{start}://***"
    return f"{start}://{place.partition('?')[0]}"
