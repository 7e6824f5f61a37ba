"""Where the processes of one test write to, so that its failure can show it."""

from __future__ import annotations

from pathlib import Path

_TAIL_BYTES = 8_000
_files: dict[Path, str] = {}


def record(name: str, path: Path) -> None:
    """Remember that the process `name` writes to `path`."""
    _files[path] = name


def clear() -> None:
    """Forget everything: the next test begins."""
    _files.clear()


def tail(path: Path, *, most_bytes: int = _TAIL_BYTES) -> str:
    """The end of a file, as text; empty where there is none."""
    try:
        return path.read_bytes()[-most_bytes:].decode(errors="replace")
    except OSError:
        return ""


def sections() -> list[tuple[str, str]]:
    """Title and text for every recorded file that has something in it."""
    found = [(f"output of {name} ({path})", tail(path)) for path, name in _files.items()]
    return [(title, text) for title, text in found if text.strip()]
