"""A process that sends one HTTP/1.1 request over and over, on some connections at once.

Each line of JSON that it reads is a round: `port`, `request`, `connections`, `count`. It answers
with a line of JSON: the seconds of the whole round, and of each request. A connection has one
request under way at a time; an answer that is no success ends the process.

`request` may be a list, one for each connection. In it, `{etag}` is the tag that the same request
was last answered with (`"v1"` at first), and `{count}` eight digits that are never the same.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import sys
import time

_RECEIVED = 65_536
_ETAG, _COUNT = b"{etag}", b"{count}"
_tags: dict[bytes, bytes] = {}
_counted = itertools.count(1)


class Connection:
    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._got = b""
        self._began = 0.0

    def ask(self) -> None:
        self._got = b""
        request = _filled(self._request)
        self._began = time.perf_counter()
        self.sock.sendall(request)

    def took(self) -> float | None:
        """Receive; the seconds since it was asked if the answer is complete, else None."""
        received = self.sock.recv(_RECEIVED)
        assert received, "the server closed the connection"
        self._got += received
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return None
        seconds = time.perf_counter() - self._began
        assert head.startswith(b"HTTP/1.1 20"), head + body
        if _ETAG in self._request:
            _tags[self._request] = _header(head, b"etag")
        return seconds


def _filled(request: bytes) -> bytes:
    if _COUNT in request:
        tag = _tags.get(request, b'"v1"')
        return request.replace(_ETAG, tag).replace(_COUNT, b"%08d" % next(_counted))
    return request


def _length(head: bytes) -> int:
    return int(_header(head, b"content-length"))


def _header(head: bytes, name: bytes) -> bytes:
    name = b"\r\n" + name + b": "
    at = head.lower().index(name) + len(name)
    return head[at:].partition(b"\r\n")[0]


def run(port: int, request: str | list[str], connections: int, count: int) -> dict[str, object]:
    selector = selectors.DefaultSelector()
    requests = request if isinstance(request, list) else [request] * connections
    everyone = [Connection(port, each.encode()) for each in requests[:connections]]
    for each in everyone:
        selector.register(each.sock, selectors.EVENT_READ, each)
    seconds: list[float] = []
    began, asked = time.perf_counter(), len(everyone)
    for each in everyone:
        each.ask()
    while len(seconds) < asked:
        for key, _ in selector.select():
            took = key.data.took()
            if took is None:
                continue
            seconds.append(took)
            if asked < count:
                key.data.ask()
                asked += 1
    whole = time.perf_counter() - began
    selector.close()
    for each in everyone:
        each.sock.close()
    return {"whole": whole, "each": seconds}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
