"""What is started with `with` is ended with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Killed(ABC):
    """Leaving the block ends it, however the block ended."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once; harmless when it has ended already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
