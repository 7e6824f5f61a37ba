"""A mail server that keeps what it is sent."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message

from tests.support.waiting import eventually

_TOKEN = re.compile(r"^[A-Za-z0-9_-]{43}$", re.MULTILINE)


class _Dialogue(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as it takes to be sent a mail."""

    server: _Server

    def handle(self) -> None:
        self._say("220 ready")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self._say("354 go on")
                self.server.kept.append(self._message())
            self._say("221 bye" if word == b"QUIT" else "250 ok")
            if word == b"QUIT":
                return

    def _message(self) -> Message:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        return message_from_bytes(b"".join(lines))

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    kept: list[Message]


class Mailbox:
    """What was sent to everybody, in order."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.url = f"smtp://127.0.0.1:{server.server_address[1]}"

    def to(self, email: str, subject: str = "") -> list[Message]:
        """Those to an address whose subject holds `subject`."""
        return [m for m in self._server.kept if m["To"] == email and subject in m["Subject"]]

    def token(self, email: str, subject: str, *, number: int = 1) -> str:
        """The token of the `number`th of them, once it has come."""
        what = f"mail {number} to {email}: {subject}"
        eventually(lambda: len(self.to(email, subject)) >= number, what=what)
        (token,) = _TOKEN.findall(text_of(self.to(email, subject)[number - 1]))
        return str(token)


def text_of(message: Message) -> str:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().replace("\r\n", "\n")


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """One that runs meanwhile."""
    with _Server(("127.0.0.1", 0), _Dialogue) as server:
        server.kept = []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Mailbox(server)
        finally:
            server.shutdown()
            thread.join(10)
