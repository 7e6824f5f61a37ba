"""Mail is written and sent in the background: no answer waits for it, or tells by its time.

What waits is lost with the process; whoever misses a mail asks for another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from app.coordination import forks
from app.errors import PostBusy
from app.services.mail import Mail, Mailer

Writes = Callable[[], Mail | None]
"""Writes a mail, or finds that there is none to write."""

_MOST = 500
_CLOSE_S = 2.0
_log = structlog.get_logger(__name__)


class Post:
    """One thread, started with the first mail; a forked child begins with nothing to send."""

    def __init__(self, mailer: Mailer, *, most: int = _MOST) -> None:
        self._mailer, self._most = mailer, most
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        self._waiting = queue.Queue[Writes | None](self._most)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def hand_in(self, writes: Writes) -> None:
        """Have a mail written and sent soon.

        Raises:
            PostBusy: as many are waiting as may.
        """
        try:
            self._waiting.put_nowait(writes)
        except queue.Full:
            raise PostBusy("Too many mails are waiting.") from None
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="post", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Send what waits, for 2 s at most. Again does nothing."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        thread.join(_CLOSE_S)

    def _run(self) -> None:
        waiting = self._waiting
        while (writes := waiting.get()) is not None:
            try:
                mail = writes()
                if mail is not None:
                    self._mailer.send(mail)
            except Exception:
                _log.exception("mail.failed")
