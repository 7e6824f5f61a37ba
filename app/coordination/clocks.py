"""Time as it passes for everybody else."""

from __future__ import annotations

import time

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def since_boot() -> float:
    """Seconds, those that the machine sleeps included where the platform counts them (Linux).

    The monotonic clock stands still meanwhile: a machine that wakes would believe what it had
    looked at before, which is not recent for those who went on writing.
    """
    return time.monotonic() if _SINCE_BOOT is None else time.clock_gettime(_SINCE_BOOT)
