"""What the services need from elsewhere, as protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

Load = Callable[[], Any]

TASKS = "tasks"


class Cache(Protocol):
    """Values that can be loaded again. Implemented in `app/coordination/cache.py`."""

    def fetch(self, namespace: str, key: str, *, tags: Sequence[str], load: Load) -> Any:
        """The JSON value under `key`, kept or loaded; `load` opens its own fresh session."""
        ...

    def invalidate(self, namespace: str, tags: Sequence[str]) -> None:
        """After the commit, before the answer. Never raises."""
        ...

    def invalidate_many(self, namespaces: Sequence[str], tags: Sequence[str]) -> None:
        """As `invalidate`, for the same tags of several namespaces."""
        ...


def project_namespace(project_id: UUID) -> str:
    """The namespace of everything cached that depends on one project."""
    return f"project:{project_id}"


def forget_tasks(cache: Cache, *project_ids: UUID) -> None:
    """Invalidate everything that depends on the projects' tasks."""
    cache.invalidate_many([project_namespace(each) for each in project_ids], [TASKS])
