"""Every error that TaskFlow raises on purpose, under one root.

Nothing here knows HTTP: `app/api/problems.py` holds the one table that turns an
error into a status. Catch the narrowest class that you can answer for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TaskFlowError(Exception):
    """The root. `str(error)` is a sentence that may be shown to whoever asked."""


# --- start-up ---------------------------------------------------------------


class ConfigError(TaskFlowError):
    """A setting that stops the start: the variable, what it got, what it takes."""

    def __init__(self, variable: str, got: str, takes: str) -> None:
        super().__init__(f"{variable}: got {got}, takes {takes}")
        self.variable = variable


class ScriptContractError(TaskFlowError):
    """A file in `lua/` that breaks the contract: name, header, keys or checksum."""


# --- what a caller asked for --------------------------------------------------


class NotFound(TaskFlowError):
    """It is not there, or this account may not know that it is."""

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no such {what}.")


class Unauthenticated(TaskFlowError):
    """No token, or one that is unknown, expired or revoked."""


class InvalidCredentials(TaskFlowError):
    """E-mail or password is wrong; which of the two is never said."""


class Forbidden(TaskFlowError):
    """The account is known and may not do this."""


class Conflict(TaskFlowError):
    """The change contradicts what is stored, such as an e-mail address already taken."""


class PreconditionRequired(TaskFlowError):
    """A change without the version that it is based on."""


class PreconditionFailed(TaskFlowError):
    """The version that the change is based on is no longer the current one."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an input: `field` is a path such as `due_at` or `line 7, priority`."""

    field: str
    message: str


class InvalidInput(TaskFlowError):
    """Input that cannot be taken; nothing of it was stored."""

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


# --- what TaskFlow stands on --------------------------------------------------


class DatabaseUnavailable(TaskFlowError):
    """The database is away, or its pool stayed full for `DB_POOL_TIMEOUT`."""

    retry_after_s = 2


class CoordinationError(TaskFlowError):
    """Redis gave no usable answer. `kind` is a key of `coordination.failures.KINDS`."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class RedisUnavailable(CoordinationError):
    """Redis is away, hung, loading or cut off by the breaker. The call may have run."""


class RedisRefused(CoordinationError):
    """Redis is there and said no (out of memory, read-only, wrong type, no permission)."""


class PoolExhausted(CoordinationError):
    """Every connection of this purpose is in use: our own load, not Redis's fault."""


class HashingBusy(TaskFlowError):
    """More passwords are being hashed than this process does at once, for seconds on end."""

    retry_after_s = 2


class PostBusy(TaskFlowError):
    """As many mails wait to be sent as may."""

    retry_after_s = 10


class LimitsUnavailable(TaskFlowError):
    """Redis is away, and requests that it cannot count are not served (`RATELIMIT_ON_LOSS`)."""

    retry_after_s = 2


# --- locks and runs -----------------------------------------------------------


class LockBusy(TaskFlowError):
    """Someone else holds the lock, and the caller chose not to wait any longer."""


class LockLost(TaskFlowError):
    """The lease ran out, or another token holds the name: stop, and write nothing."""


class FencedOut(TaskFlowError):
    """A newer fence exists in the database: this run's batch was not committed."""
