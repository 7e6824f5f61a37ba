"""A process that takes the benchmark's lock.

`pass <peer> <url> <times>`: take it, keep it for a moment, give it back, rest; and one line of JSON
for each time, with the moments of asking, taking and giving back.
`hold <url> <ttl_ms>`: take it, say so, and renew it until it is killed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

from benchmarks.lock_peers import NAME, PEERS, service

# It rests for longer than redis-py's pause between two tries, so that the other one gets the lock,
# and keeps it for longer than it rests, so that the other one is waiting by then; by how much is
# spread over one whole pause, or each release would meet the same moment of it.
_REST_S, _KEEP_LEAST_S, _KEEP_MOST_S = 0.12, 0.14, 0.24


def pass_on(peer: str, url: str, times: str) -> None:
    take = PEERS[peer](url)
    for _ in range(int(times)):
        asked = time.monotonic()
        give_back = take()
        took = time.monotonic()
        time.sleep(random.uniform(_KEEP_LEAST_S, _KEEP_MOST_S))
        gave = time.monotonic()
        give_back()
        print(json.dumps({"took": took, "gave": gave, "asked": asked, "worker": os.getpid()}))
        time.sleep(_REST_S)


def hold(url: str, ttl_ms: str) -> None:
    with service(url).hold(NAME, ttl_ms=int(ttl_ms), on_loss="closed"):
        print("held", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _, what, *arguments = sys.argv
    (pass_on if what == "pass" else hold)(*arguments)
