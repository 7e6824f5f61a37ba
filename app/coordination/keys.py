"""Every key name, in one place.

`tf:1:{<tag>}:…`: the service, the version of the key layout, and the hash tag that puts the keys
of one decision on one cluster slot. What comes from outside is escaped and bounded, so that no
name can break out of its slot or grow without limit.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

_PREFIX = "tf:1"
_MOST_BYTES = 200
_UNSAFE = re.compile(r"[\x00-\x20{}%\x7f-\x9f]")
_ESCAPES = re.compile(r"(?:%[0-9a-f]{2})+")
_BEGUN_ESCAPE = re.compile(r"(?:%c2)?(?:%[0-9a-f]?)?\Z")  # U+0080 to U+009F are two bytes, C2 first


@lru_cache(maxsize=4_096)
def safe(name: str) -> str:
    """`name` as part of a key: no control character, space or brace, at most 200 bytes.

    Longer names keep their beginning and end in a hash of the whole, so that two stay two. An
    empty one becomes `%`: a cluster takes `{}` for no hash tag at all. `name_of` reads it back.
    """
    if not name:
        return "%"
    text = _UNSAFE.sub(lambda match: "".join(f"%{b:02x}" for b in match[0].encode()), name)
    raw = text.encode()
    if len(raw) <= _MOST_BYTES:
        return text
    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
    kept = raw[: _MOST_BYTES - 33].decode(errors="ignore")
    return f"{_BEGUN_ESCAPE.sub('', kept)}~{digest}"


def name_of(part: str) -> str:
    """The name that `safe` made `part` of.

    One that was cut stays cut, with the hash at its end. `safe` makes the same part of that, so
    that what is done to it is done to what it stands for.

    Raises:
        ValueError: `safe` never made it.
    """
    name = "" if part == "%" else _ESCAPES.sub(_unescaped, part)
    if safe(name) != part:
        raise ValueError(part)
    return name


def _unescaped(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode(errors="replace")


def plain(part: str) -> str:
    """As `name_of`; what `safe` never made is told as it is."""
    try:
        return name_of(part)
    except ValueError:
        return part


def _pattern_of(name: str) -> str:
    """`name` as part of a pattern: what a glob reads is escaped."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", safe(name))


class LockKeys(NamedTuple):
    lease: str
    fence: str
    waiters: str
    wake: str


class CronKeys(NamedTuple):
    lease: str
    done: str


class CacheKeys(NamedTuple):
    entry: str
    meta: str
    tags: str
    fill: str


def lock(name: str) -> LockKeys:
    tag = f"{_PREFIX}:{{lock:{safe(name)}}}"
    return LockKeys(f"{tag}:lease", f"{tag}:fence", f"{tag}:waiters", f"{tag}:wake")


LOCKS = f"{_PREFIX}:{{lock:*}}:lease"
_LOCK = re.compile(rf"^{_PREFIX}:\{{lock:(?P<name>[^}}]+)\}}:lease$")


def lock_of(key: str) -> str | None:
    """The lock's name in the key of its lease, as `LOCKS` finds it; None for another key."""
    found = _LOCK.match(key)
    return found["name"] if found else None


def cron(job: str, slot_s: int) -> CronKeys:
    tag = f"{_PREFIX}:{{cron:{safe(job)}}}"
    return CronKeys(f"{tag}:lease", f"{tag}:done:{slot_s}")


def rate(identity: str, limit: str) -> str:
    return f"{_PREFIX}:{{{safe(identity)}}}:rate:{safe(limit)}"


def rate_reset(identity: str) -> str:
    return f"{_PREFIX}:{{{safe(identity)}}}:rate-reset"


def rates(identity: str | None = None) -> str:
    """The pattern of an identity's logs, or of everybody's."""
    who = "*" if identity is None else _pattern_of(identity)
    return f"{_PREFIX}:{{{who}}}:rate:*"


_RATE = re.compile(rf"^{_PREFIX}:\{{(?P<identity>[^}}]+)\}}:rate:(?P<limit>.+)$")


def rate_of(key: str) -> tuple[str, str]:
    """Identity and limit's name in the key of a log, as `rates` finds it, both by `name_of`.

    Raises:
        ValueError: it is no such key.
    """
    found = _RATE.match(key)
    if not found:
        raise ValueError(key)
    return name_of(found["identity"]), name_of(found["limit"])


FLEET = f"{_PREFIX}:{{fleet}}:processes"


def cache(namespace: str, key: str) -> CacheKeys:
    tag, entry = f"{_PREFIX}:{{{safe(namespace)}}}", safe(key)
    return CacheKeys(f"{tag}:entry:{entry}", f"{tag}:meta", f"{tag}:tags", f"{tag}:fill:{entry}")


def cached(namespace: str | None = None) -> tuple[str, str]:
    """The patterns of a namespace's meta and of its entries, or of everybody's."""
    tag = f"{_PREFIX}:{{{'*' if namespace is None else _pattern_of(namespace)}}}"
    return f"{tag}:meta", f"{tag}:entry:*"


class Cached(NamedTuple):
    """What a key of the cache is of; `key` is None for a namespace's meta."""

    namespace: str
    key: str | None
    meta: str
    tags: str


_CACHED = re.compile(
    rf"^(?P<tag>{_PREFIX}:\{{(?P<namespace>[^}}]+)\}}):(meta|entry:(?P<key>.+))$", re.DOTALL
)


def cached_of(key: str) -> Cached | None:
    """What a key is of, as `cached` finds it; None for another key."""
    found = _CACHED.match(key)
    if not found:
        return None
    entry, tag = found["key"], found["tag"]
    name = None if entry is None else plain(entry)
    return Cached(plain(found["namespace"]), name, f"{tag}:meta", f"{tag}:tags")
