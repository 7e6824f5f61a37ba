"""What can go wrong with a Redis call, and what follows: the failure policy's one table.

`KINDS` says of each kind whether the breaker counts it and which error the caller sees. `ON_LOSS`
says what each purpose does without Redis; the health document prints it.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis import exceptions as redis_errors

from app.errors import CoordinationError, PoolExhausted, RedisRefused, RedisUnavailable


@dataclass(frozen=True, slots=True)
class Kind:
    """`trips`: the breaker counts it, because the next call would fare no better.

    `may_have_run`: the call was sent and its reply was lost; only its caller knows what follows.
    `lasts`: asking again soon would meet the same.
    """

    trips: bool
    error: type[CoordinationError]
    may_have_run: bool = False
    lasts: bool = False


KINDS = {
    "timeout": Kind(True, RedisUnavailable, may_have_run=True),
    "connection": Kind(True, RedisUnavailable, may_have_run=True),
    "loading": Kind(True, RedisUnavailable),
    "clusterdown": Kind(True, RedisUnavailable),
    "busy": Kind(True, RedisUnavailable),
    "breaker": Kind(False, RedisUnavailable),
    "budget": Kind(False, RedisUnavailable),
    "absent": Kind(False, RedisUnavailable, lasts=True),
    "readonly": Kind(False, RedisRefused),
    "noreplicas": Kind(False, RedisRefused),
    "oom": Kind(False, RedisRefused),
    "auth": Kind(False, RedisRefused, lasts=True),
    "wrongtype": Kind(False, RedisRefused, lasts=True),
    "moved": Kind(False, RedisRefused),
    "refused": Kind(False, RedisRefused, lasts=True),
    "pool": Kind(False, PoolExhausted),
}

ON_LOSS = {
    "limiter": "requests are admitted without counting",
    "cache": "answers come from the database, and for at most 5 s from this process's memory",
    "lock": "scheduled runs go by the database's claim alone",
}

# What an exchange with Redis may raise; redis-py's cluster errors are no RedisError.
ERRORS = (redis_errors.RedisError, redis_errors.RedisClusterException, OSError)

# Order matters: redis-py makes LOADING, authentication and pool errors kinds of ConnectionError.
_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (redis_errors.MaxConnectionsError, "pool"),
    (redis_errors.BusyLoadingError, "loading"),
    (redis_errors.ClusterDownError, "clusterdown"),
    (redis_errors.MasterDownError, "clusterdown"),
    (redis_errors.AuthenticationError, "auth"),
    (redis_errors.AuthorizationError, "auth"),
    (redis_errors.NoPermissionError, "auth"),
    (redis_errors.ReadOnlyError, "readonly"),
    (redis_errors.OutOfMemoryError, "oom"),
    (redis_errors.MovedError, "moved"),
    (redis_errors.TimeoutError, "timeout"),
    (redis_errors.ConnectionError, "connection"),
    (redis_errors.RedisClusterException, "clusterdown"),
    (TimeoutError, "timeout"),
    (OSError, "connection"),
)

_BY_PREFIX = {
    "OOM": "oom",
    "WRONGTYPE": "wrongtype",
    "BUSY": "busy",
    "NOREPLICAS": "noreplicas",
    "CLUSTERDOWN": "clusterdown",
    "LOADING": "loading",
    "READONLY": "readonly",
    "NOPERM": "auth",
    "NOAUTH": "auth",
    "TRYAGAIN": "moved",
}


def kind_of(error: BaseException) -> str:
    """The key of `KINDS` for an error of redis-py or of the socket below it."""
    for cls, kind in _BY_CLASS:
        if isinstance(error, cls):
            return kind
    return _BY_PREFIX.get(str(error).split(" ", 1)[0], "refused")


def may_have_run(error: CoordinationError) -> bool:
    """Whether the call may have happened although it was not answered."""
    return KINDS[error.kind].may_have_run


def lasts(error: CoordinationError) -> bool:
    """Whether asking again soon would be in vain."""
    return KINDS[error.kind].lasts


def typed(error: BaseException, *, purpose: str) -> CoordinationError:
    """The TaskFlow error for `error`, naming the purpose and the kind and no address or key."""
    kind = kind_of(error)
    return of_kind(kind, purpose=purpose, detail=type(error).__name__)


def of_kind(kind: str, *, purpose: str, detail: str) -> CoordinationError:
    """The TaskFlow error of a kind that is known already."""
    return KINDS[kind].error(f"Redis ({purpose}): {kind}, {detail}", kind=kind)
