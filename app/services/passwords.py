"""Passwords as argon2id hashes, a bounded number of them made at a time.

Each takes tens of milliseconds and megabytes, so that a crowd at the log-in could use up the whole
process: beyond the bound one waits for a moment, and is then told to come again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.coordination import forks
from app.errors import HashingBusy

_WAIT_S = 2.0
_DUMMY_BYTES = 32


class Passwords:
    """Hashes and verifies.

    Args:
        hasher: argon2 with the parameters of today; older hashes are renewed at log-in.
        at_once: how many are made at a time by this process; 4 of them need 256 MiB.
        wait_s: how long one waits for its turn, in seconds.
    """

    def __init__(self, hasher: PasswordHasher, *, at_once: int, wait_s: float = _WAIT_S) -> None:
        self._hasher, self._at_once, self._wait_s = hasher, at_once, wait_s
        # Verified for unknown addresses, so that these take as long as a wrong password.
        self._dummy_hash = hasher.hash(secrets.token_urlsafe(_DUMMY_BYTES))
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With every turn free: those that were taken are the parent's."""
        self._turns = threading.BoundedSemaphore(self._at_once)

    def hash(self, password: str) -> str:
        """A new hash, with a salt of its own.

        Raises:
            HashingBusy: no turn came in time.
        """
        with self._turn():
            return self._hasher.hash(raw(password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; None, for an account that is not there, takes as long.

        Raises:
            HashingBusy: no turn came in time.
        """
        with self._turn():
            try:
                verified = self._hasher.verify(password_hash or self._dummy_hash, raw(password))
            except (VerificationError, InvalidHashError):
                return False
        return verified and password_hash is not None

    def renewed(self, password_hash: str, password: str) -> str | None:
        """The password under today's parameters, where the stored hash has older ones."""
        if not self._hasher.check_needs_rehash(password_hash):
            return None
        return self.hash(password)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        turns = self._turns  # in a child there are others
        if not turns.acquire(timeout=self._wait_s):
            raise HashingBusy("Too many passwords are being checked at this moment.")
        try:
            yield
        finally:
            turns.release()


def raw(text: str) -> bytes:
    """The text's bytes, also of half a surrogate pair, which JSON can carry."""
    return text.encode("utf-8", "surrogatepass")
