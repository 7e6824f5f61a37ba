"""Who tries a slot of a scheduled job first: a hint that spares the others the work.

The database decides who may (`app.db.cron`): it mints the fence and judges each batch. Everything
here may be lost, late or wrong without a slot running twice; without Redis every scheduler asks the
database.
"""

from __future__ import annotations

from enum import StrEnum

import structlog

from app.coordination import keys
from app.coordination.absent import Scripting
from app.coordination.scripts import Arg, Call, ScriptRegistry
from app.errors import CoordinationError

_DONE_TTL_MS = 2 * 86_400_000
_log = structlog.get_logger(__name__)


class Verdict(StrEnum):
    """What Redis says of a slot. Only `RUNNING` spares a try; all others ask the database.

    `DONE` is for operators to see: a database restored from a backup may have forgotten it.
    """

    CLAIMED = "claimed"
    RUNNING = "running"
    DONE = "done"
    UNKNOWN = "unknown"


class CronClaims:
    """Claim a slot before trying it, and settle the claim afterwards.

    Args:
        holder: this instance, for operators to read.
    """

    def __init__(self, client: Scripting, scripts: ScriptRegistry, *, holder: str) -> None:
        self._client, self._holder = client, holder
        self._claim = scripts["cron_claim.v1"]
        self._settle = scripts["cron_settle.v1"]

    def claim(self, job: str, slot_s: int, *, token: str, ttl_ms: int) -> Verdict:
        """Ask once, without waiting. The same token asking again renews its claim to `ttl_ms`.

        Args:
            slot_s: the slot, seconds since the epoch.
        """
        args: list[Arg] = [token, ttl_ms, slot_s, self._holder]
        try:
            verdict, _left_ms = self._client.call(Call(self._claim, keys.cron(job, slot_s), args))
        except CoordinationError as error:
            _tell("cron.claim_unknown", job, slot_s, error)
            return Verdict.UNKNOWN
        return Verdict(verdict.decode())

    def settle(self, job: str, slot_s: int, *, token: str, done: bool) -> None:
        """Free the claim; `done` only after the slot's outcome has committed in the database.

        Without an answer the claim ends by its time and the slot is judged by the database.
        """
        args: list[Arg] = [token, int(done), _DONE_TTL_MS]
        try:
            self._client.call(Call(self._settle, keys.cron(job, slot_s), args))
        except CoordinationError as error:
            _tell("cron.settle_unknown", job, slot_s, error)


def _tell(event: str, job: str, slot_s: int, error: CoordinationError) -> None:
    if error.kind != "absent":  # which is said once, when the process starts
        _log.warning(event, job=job, slot=slot_s, kind=error.kind)
