"""Ports that are free right now, on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable

# Below Linux's range for outgoing connections (32768 and up), so that no client's
# own port takes one away between the look and the start of the server.
_LOWEST, _HIGHEST = 12_000, 31_999
_BUS_OFFSET = 10_000  # a cluster node's bus listens that much above its port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nothing is bound to `port`; it may be taken a moment later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A random free port: several test runs on one machine rarely meet, and starters retry."""
    return _pick(_HIGHEST, is_free)


def free_port_with_bus() -> int:
    """A free port for a cluster node, whose bus port is free too."""
    return _pick(_HIGHEST - _BUS_OFFSET, lambda p: is_free(p) and is_free(p + _BUS_OFFSET))


def _pick(highest: int, is_usable: Callable[[int], bool]) -> int:
    source = random.SystemRandom()
    for _ in range(1_000):
        port = source.randint(_LOWEST, highest)
        if is_usable(port):
            return port
    raise RuntimeError(f"no free port between {_LOWEST} and {highest}")
