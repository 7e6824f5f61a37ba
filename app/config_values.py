"""What values settings may have: URLs, limits, nodes, networks. Each check raises ValueError."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

# At most 9 digits of hits, 3 of units: what the script can count.
_LIMIT = re.compile(
    r"^\s*([1-9]\d{0,8})\s*(?:/|per)\s*([1-9]\d{0,2})?\s*(second|minute|hour|day|month|year)s?"
    r"(\s+(exact|shadow)){0,2}\s*$",
    re.ASCII,
)

# As browsers write it: lower case, no path, no port that the scheme implies.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII)


def _split(url: str) -> SplitResult:
    if url.strip() != url:
        raise ValueError("white space")
    return urlsplit(url)


def _redis_url(value: str) -> str:
    parts = _split(value)
    path = parts.path.strip("/")
    # `port` raises ValueError itself for what is no port.
    is_server = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
    if not (is_server and (path.isdecimal() or not path)) and not (parts.scheme == "unix" and path):
        raise ValueError("not a Redis URL")
    return value


def _smtp_url(value: str) -> str:
    parts = _split(value)
    is_server = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
    if not is_server or parts.path.strip("/") or parts.query:
        raise ValueError("not an SMTP URL")
    return value


def _database_url(value: str) -> str:
    parts = _split(value)
    is_file = value.startswith("sqlite:///") and len(value) > len("sqlite:///")
    is_server = parts.scheme in ("postgresql", "postgresql+psycopg") and value.count("://") == 1
    if not is_file and not (is_server and parts.netloc and parts.port != 0):
        raise ValueError("not a database URL")
    return value


def limit_list(value: str) -> str:
    """Limits joined by `;`, each with `exact` or `shadow` behind it if that is meant.

    Raises:
        ValueError: it is none; or it has a limit twice, which would be counted twice.
    """
    found = [_LIMIT.match(part) for part in value.split(";")]
    each = {(limit[1], limit[2] or "1", limit[3]) for limit in found if limit}
    if len(each) < len(found):
        raise ValueError("not a list of different limits")
    return value


def _node(value: str) -> str:
    host, _, port = value.strip().rpartition(":")
    if not host or not port.isdecimal() or not port.isascii() or not 0 < int(port) < 65_536:
        raise ValueError("not host:port")
    return value


def _nodes(value: str) -> str:
    return ",".join(map(_node, value.split(",")))


def _redis_urls(value: str) -> str:
    servers = [_server(_redis_url(url)) for url in listed(value)]
    if len(set(servers)) < max(3, len(servers)) or any("," in host for host, _ in servers):
        raise ValueError("not three different servers")
    return value


def _networks(value: str) -> str:
    for network in value.split(","):
        ip_network(network.strip())
    return value


def _origins(value: str) -> str:
    origins = [each.strip() for each in value.split(",")]
    if origins != ["*"] and not all(map(_ORIGIN.fullmatch, origins)):
        raise ValueError("not a list of origins")
    return ",".join(origins)


def listed(urls: str) -> list[str]:
    """The URLs of a list; a comma inside a password does not part them."""
    return re.split(r",(?=\w+://)", urls)


def _server(url: str) -> tuple[str, int]:
    """Whom a URL means: another user or database is no other server."""
    parts = urlsplit(url)
    return parts.hostname or parts.path, parts.port or 6379


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
SmtpUrl = Annotated[str, AfterValidator(_smtp_url)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
LimitList = Annotated[str, AfterValidator(limit_list)]
RedisUrlList = Annotated[str, AfterValidator(_redis_urls)]
Node = Annotated[str, AfterValidator(_node)]
NetworkList = Annotated[str, AfterValidator(_networks)]
OriginList = Annotated[str, AfterValidator(_origins)]
NodeList = Annotated[str, AfterValidator(_nodes)]

REDIS_URL_TAKES = "redis://, rediss:// or unix://, such as redis://user:password@host:6379/0"
LIMITS_TAKES = "limits joined by ';', such as 300/minute;5000/hour or 9/second shadow, none twice"
