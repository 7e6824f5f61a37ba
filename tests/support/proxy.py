"""A TCP proxy that makes a network bad on purpose: slow, cut, dripping, losing one reply."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

from tests.support.killed import Killed

_CHUNK = 65_536


class Proxy(Killed):
    """Listens on a port of its own and forwards to `target_port`, both on loopback.

    Attributes that may be changed at any time; they act on replies only, so that the
    request has run on the server by the time its answer is late or lost:
        delay_ms: milliseconds that every reply is held back.
        drip_ms: if not None, replies leave byte by byte with this pause between two bytes.
    """

    def __init__(self, target_port: int) -> None:
        self.delay_ms = 0.0
        self.drip_ms: float | None = None
        self._target_port = target_port
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._drop_after: bytes | None = None
        self._dropped = 0
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._accept_in_background()

    @classmethod
    def start(cls, target_port: int) -> Self:
        """A proxy in front of `target_port`; use it with `with`, or end it with `close()`."""
        return cls(target_port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def dropped_replies(self) -> int:
        """How many replies were swallowed so far."""
        return self._dropped

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()

    def restore(self) -> None:
        """Take connections again, on the same port."""
        self._listener = _listen(self.port)
        self._accept_in_background()

    def retarget(self, port: int) -> None:
        """Forward to another port from now on, as after a failover; open connections are closed."""
        self._target_port = port
        self.close_connections()

    def close_connections(self) -> None:
        """Close every connection; new ones are taken."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def drop_reply_once(self, *, after: bytes = b"") -> None:
        """Forward the next request, swallow its reply, and close that connection.

        Arguments:
            after: only a request that holds these bytes counts, such as `b"EVALSHA"`.
        """
        with self._lock:
            self._drop_after = after

    def kill(self) -> None:
        """End it for good."""
        self.cut()

    def _accept_in_background(self) -> None:
        listener = self._listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open(client)

    def _open(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target_port), 5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            self._links.add(link)
        link.start()

    def _takes_the_drop(self, request: bytes) -> bool:
        """Whether `request` is the one whose reply gets lost; true once for each call."""
        with self._lock:
            if self._drop_after is None or self._drop_after not in request:
                return False
            self._drop_after = None
            self._dropped += 1
            return True

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client's connection and its twin to the server, a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._closed = threading.Event()
        self._loses_reply = False
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for pump in (self._requests, self._replies):
            threading.Thread(target=self._run, args=(pump,), daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._proxy._forget(self)

    def _run(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        self.close()

    def _requests(self) -> None:
        while data := self._client.recv(_CHUNK):
            if self._proxy._takes_the_drop(data):
                self._loses_reply = True
            self._server.sendall(data)

    def _replies(self) -> None:
        while data := self._server.recv(_CHUNK):
            if self._loses_reply or self._closed.wait(self._proxy.delay_ms / 1_000):
                return
            if self._proxy.drip_ms is None:
                self._client.sendall(data)
            else:
                self._drip(data, self._proxy.drip_ms / 1_000)

    def _drip(self, data: bytes, pause_s: float) -> None:
        for position in range(len(data)):
            if self._closed.wait(pause_s):
                return
            self._client.sendall(data[position : position + 1])


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    return listener
