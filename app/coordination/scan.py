"""Finding keys, for operators' tools: nothing on a request's path may do this."""

from __future__ import annotations

from collections.abc import Iterator

from app.coordination.client import ScriptClient

_AT_ONCE = 1_000


def keys_like(client: ScriptClient, pattern: str) -> Iterator[str]:
    """Every key that matches, on every primary; one that comes or goes meanwhile may be missed.

    One that is not UTF-8 is none of ours: its bytes are told as `\\xff`.

    Raises:
        CoordinationError: a primary gave no answer.
    """
    for node in client.nodes():
        if node.role != "primary":
            continue
        cursor = 0
        while True:
            command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _AT_ONCE)
            ((at, page),) = client.on_node(node, [command])
            yield from (key.decode(errors="backslashreplace") for key in page)
            cursor = int(at)
            if cursor == 0:
                break
