"""Locks as operators see them: which are held, by whom, since when, and who waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from app.coordination import keys
from app.coordination.client import ScriptClient
from app.coordination.lock_store import PrimaryStore
from app.coordination.scan import keys_like
from app.coordination.scripts import Call, ScriptRegistry
from app.errors import CoordinationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LockView:
    """A lock at one moment, on the server that shows it.

    `left_ms` is None too for a lease that has no end: nobody gets it but by force.
    `holder` is the process (label, process id, nonce), `instance` its label; both are None for a
    free lock, as are `age_s` and `left_ms`. `fence` is the last one minted, if one is remembered.
    `servers` is how many of them it is held on.
    """

    name: str
    holder: str | None
    instance: str | None
    fence: int | None
    age_s: int | None
    left_ms: int | None
    waiters: int
    servers: int
    token: str | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the token: whoever knows that may release the lock."""
        return {name: value for name, value in asdict(self).items() if name != "token"}


class LockInspection:
    """Looks at the locks of one primary or cluster, or of several independent servers.

    Of several servers those that answer are enough. Every method raises CoordinationError where
    none does.
    """

    def __init__(self, clients: Sequence[ScriptClient], scripts: ScriptRegistry) -> None:
        self._clients, self._scripts = clients, scripts

    def held(self) -> list[LockView]:
        """Every lock that is held, by name."""
        names = {name for found in self._ask(_names) for name in found}
        shown = [self.show(name) for name in sorted(names)]
        return [view for view in shown if view.token]

    def show(self, name: str) -> LockView:
        """One lock, whether it is held or free; on several servers as most of them show it."""
        views = self._ask(lambda client: self._look(client, name))
        held = [view for view in views if view.token]
        tokens = [view.token for view in held]
        by_count = sorted(held or views, key=lambda view: tokens.count(view.token))
        return replace(by_count[-1], servers=tokens.count(by_count[-1].token))

    def force(self, seen: LockView) -> bool:
        """Release a lock that was seen held, unless it has passed on since; wakes a waiter."""

        def release(client: ScriptClient) -> bool:
            store = PrimaryStore(client, self._scripts, holder="operator")
            return store.release(seen.name, seen.token or "")

        return any(self._ask(release))

    def _ask(self, question: Callable[[ScriptClient], T]) -> list[T]:
        answers, lost = [], None
        for client in self._clients:
            try:
                answers.append(question(client))
            except CoordinationError as error:
                lost = error
        if lost is not None and not answers:
            raise lost
        return answers

    def _look(self, client: ScriptClient, name: str) -> LockView:
        said = client.call(Call(self._scripts["lock_inspect.v1"], keys.lock(name)[:3], []))
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


def _names(client: ScriptClient) -> set[str]:
    """The names of locks that are held, or were a moment ago."""
    return {name for key in keys_like(client, keys.LOCKS) if (name := keys.lock_of(key))}
