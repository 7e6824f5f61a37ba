"""Mail: by SMTP where a server is named, into the log where none is."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import structlog

TIMEOUT_S = 10.0
_PORTS = {"smtp": 587, "smtps": 465}
_log = structlog.get_logger(__name__)


class Mail(NamedTuple):
    """One message, in plain text."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Whoever takes mail."""

    def send(self, mail: Mail) -> None:
        """Hand it on.

        Raises:
            OSError: the server is away, or refuses it (`smtplib.SMTPException` is one).
        """
        ...


class LogMailer:
    """Writes mail to the log; what it says only where `shows_text`: it holds tokens."""

    def __init__(self, *, shows_text: bool) -> None:
        self._shows_text = shows_text

    def send(self, mail: Mail) -> None:
        if self._shows_text:
            _log.info("mail.written", to=mail.to, subject=mail.subject, text=mail.text)
        else:
            _log.warning("mail.not_sent", subject=mail.subject, why="SMTP_URL is not set")


class SmtpMailer:
    """Sends mail on a connection of its own.

    Args:
        url: `smtp://` (with STARTTLS where the server offers it) or `smtps://`, then
            `user:password@host:port`; user, password and port may be left out.
        sender: the address that it comes from.
        timeout_s: for each step, in seconds.
    """

    def __init__(self, url: str, *, sender: str, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._sender, self._timeout_s = urlsplit(url), sender, timeout_s

    def send(self, mail: Mail) -> None:
        """As `Mailer.send`; a password is never sent in the clear."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, mail.to, mail.subject
        message.set_content(mail.text)
        with self._connected() as server:
            if self._url.username:
                server.login(unquote(self._url.username), unquote(self._url.password or ""))
            server.send_message(message)

    def _connected(self) -> smtplib.SMTP:
        host, timeout_s = self._url.hostname or "", self._timeout_s
        port = self._url.port or _PORTS[self._url.scheme]
        context = ssl.create_default_context()
        if self._url.scheme == "smtps":
            return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
        server = smtplib.SMTP(host, port, timeout=timeout_s)
        try:
            server.ehlo()
            # With a log-in it must be there: whoever stands between could have taken the offer out.
            if server.has_extn("starttls") or self._url.username:
                server.starttls(context=context)
        except BaseException:
            server.close()
            raise
        return server
