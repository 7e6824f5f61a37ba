"""Locks as operators see them: which are held, by whom, since when, and who waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from app.coordination import failures, keys
from app.coordination.client import ScriptClient
from app.coordination.lock_store import PrimaryStore
from app.coordination.scan import keys_like
from app.coordination.scripts import Call, ScriptRegistry
from app.errors import CoordinationError

T = TypeVar("T")
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class LockView:
    """A lock at one moment, on the server that shows it.

    `left_ms` is None too for a lease that has no end: nobody gets it but by force.
    `holder` is the process (label, process id, nonce), `instance` its label; both are None for a
    free lock, as are `age_s` and `left_ms`. `fence` is the last one minted, if one is remembered.
    `servers` is on how many it is held, `of_servers` how many there are.
    """

    name: str
    holder: str | None
    instance: str | None
    fence: int | None
    age_s: int | None
    left_ms: int | None
    waiters: int
    servers: int
    of_servers: int = 1
    token: str | None = field(default=None, repr=False)

    @property
    def is_held(self) -> bool:
        """Whether anybody can hold it: leases on a minority of the servers are remains of a try."""
        return 2 * self.servers > self.of_servers

    def as_dict(self) -> dict[str, Any]:
        """Everything but the token: whoever knows that may release the lock."""
        return {name: value for name, value in asdict(self).items() if name != "token"}


class LockInspection:
    """Looks at the locks of one primary or cluster, or of several independent servers.

    Of several servers those that answer are enough; one that did not is not asked again. Every
    method raises CoordinationError where none does.
    """

    def __init__(self, clients: Sequence[ScriptClient], scripts: ScriptRegistry) -> None:
        self._clients, self._of_servers = list(clients), len(clients)
        self._inspect = scripts["lock_inspect.v1"]
        self._scripts = scripts

    def held(self) -> list[LockView]:
        """Every lease there is, by name."""
        views = defaultdict[str, list[LockView]](list)
        for of_one in self._ask(self._held_on):
            for view in of_one:
                views[view.name].append(view)
        return [self._together(views[name]) for name in sorted(views)]

    def show(self, name: str) -> LockView:
        """One lock, whether it is held or free; on several servers as most of them show it."""
        return self._together([view for (view,) in self._ask(partial(self._look, names=[name]))])

    def _together(self, views: Sequence[LockView]) -> LockView:
        held = [view for view in views if view.token]
        tokens = [view.token for view in held]
        best = max(held or views, key=lambda view: tokens.count(view.token))
        return replace(best, servers=tokens.count(best.token), of_servers=self._of_servers)

    def force(self, seen: LockView) -> bool:
        """Release a lock that was seen held, unless it has passed on since; wakes a waiter."""

        def release(client: ScriptClient) -> bool:
            store = PrimaryStore(client, self._scripts, holder="operator")
            return store.release(seen.name, seen.token or "")

        return any(self._ask(release))

    def _ask(self, question: Callable[[ScriptClient], T]) -> list[T]:
        answers, lost = [], None
        for client in list(self._clients):
            try:
                answers.append(question(client))
            except CoordinationError as error:
                lost = error
                self._clients.remove(client)
        if not answers:
            raise lost or failures.of_kind("absent", purpose="operator", detail="no server is left")
        return answers

    def _held_on(self, client: ScriptClient) -> list[LockView]:
        found = {name for key in keys_like(client, keys.LOCKS) if (name := keys.lock_of(key))}
        names = sorted(found)
        pages = [names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)]
        return [view for page in pages for view in self._look(client, page) if view.token]

    def _look(self, client: ScriptClient, names: Sequence[str]) -> list[LockView]:
        calls = [Call(self._inspect, keys.lock(name)[:3], []) for name in names]
        replies = client.call_many(calls)
        for reply in replies:
            if isinstance(reply, CoordinationError):
                raise reply
        return [_view(name, reply) for name, reply in zip(names, replies, strict=True)]


def _view(name: str, said: Sequence[Any]) -> LockView:
    token, holder, since, left_ms, fence, waiters, now = said
    held = token is not None
    who = holder.decode() if held else None
    return LockView(
        name=name,
        holder=who,
        instance=who.split(":")[0] if who else None,
        fence=int(fence) if fence else None,
        age_s=max(0, int(now) - int(since)) if held else None,
        left_ms=int(left_ms) if held and left_ms >= 0 else None,
        waiters=int(waiters),
        servers=int(held),
        token=token.decode() if held else None,
    )
