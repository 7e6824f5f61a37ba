"""The Lua scripts as versioned source files: found, checked, pinned and loaded.

A file is `lua/<noun>_<verb>.v<N>.lua`, one command each; its header is its contract and
`lua/manifest.json` pins its SHA-1 and number of keys. A released script never changes: a change is
a new version beside the old one, for as long as instances of the last release may run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.errors import ScriptContractError

FOLDER = Path(__file__).resolve().parents[2] / "lua"
MANIFEST = "manifest.json"

_FILE = re.compile(r"^(?P<noun>[a-z]+)_(?P<verb>[a-z]+)\.v(?P<version>[1-9]\d*)\.lua$")
_TITLE = re.compile(r"^-- (?P<name>[a-z]+_[a-z]+) v(?P<version>\d+) - \S")
_HEADER_KEY = re.compile(
    r"^-- KEYS\[(?P<index>\d+(\.\.n)?)\] +(string|hash|zset|list|set|stream) +tf:1:\{"
)
_CODE_KEY = re.compile(r"KEYS\[(\d+|[^\]]+)\]")
_SECTIONS = ("-- Returns ", "-- Clock: ", "-- Atomic because: ")
# Libraries that not every server has, randomness, and globals.
_FORBIDDEN = re.compile(
    r"\b(struct|cmsgpack|bit|loadstring|math\.random)\b|^function |^[a-z_]+ *=[^=]", re.M
)

Arg = str | int | bytes


@dataclass(frozen=True, slots=True)
class Script:
    """One script file.

    `id` is `<noun>_<verb>.v<N>`; `keys` the number of keys, or `2+` for two and more.
    """

    name: str
    version: int
    source: str
    sha: str
    keys: int | str

    @property
    def id(self) -> str:
        return f"{self.name}.v{self.version}"


class Call(NamedTuple):
    """One invocation, ready to be sent; all its keys share a hash tag."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Arg]

    def command(self) -> tuple[Arg, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


class ScriptRegistry(Mapping[str, Script]):
    """All scripts of a folder, by `id`. Serving processes call `verify` before they start."""

    def __init__(self, scripts: Mapping[str, Script], folder: Path) -> None:
        self._scripts, self._folder = dict(scripts), folder

    @classmethod
    def from_folder(cls, folder: Path = FOLDER) -> ScriptRegistry:
        """Read every script.

        Raises:
            ScriptContractError: for a file whose name says no script.
        """
        scripts = {script.id: script for script in map(read, sorted(folder.glob("*.lua")))}
        return cls(scripts, folder)

    def verify(self) -> None:
        """Hold every script to the contract and the manifest.

        Raises:
            ScriptContractError: naming every file that breaks either, and how.
        """
        faults = [fault for script in self.values() for fault in contract_faults(script)]
        faults += manifest_faults(self, pinned(self._folder))
        if faults:
            raise ScriptContractError("; ".join(faults))

    def __getitem__(self, id_: str) -> Script:
        return self._scripts[id_]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scripts)

    def __len__(self) -> int:
        return len(self._scripts)


def read(path: Path) -> Script:
    """One file as a script.

    Raises:
        ScriptContractError: if the file's name is not `<noun>_<verb>.v<N>.lua`.
    """
    match = _FILE.match(path.name)
    if not match:
        raise ScriptContractError(f"{path.name}: the name must be <noun>_<verb>.v<N>.lua")
    source = path.read_text(encoding="utf-8")
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    name = f"{match['noun']}_{match['verb']}"
    return Script(name, int(match["version"]), source, sha, _keys_of(source))


def contract_faults(script: Script) -> list[str]:
    """What in the file breaks the contract; an empty list if nothing does."""
    header, code = _split(script.source)
    faults = []
    title = _TITLE.match(header[0]) if header else None
    if not title or (title["name"], int(title["version"])) != (script.name, script.version):
        faults.append(f"the first line must be '-- {script.name} v{script.version} - purpose'")
    faults += [f"the header has no line '{s.strip()}'" for s in _SECTIONS if not _starts(header, s)]
    in_header = {"n" if ".." in index else index for index in _indexes(header)}
    in_code = {key if key.isdigit() else "n" for key in _CODE_KEY.findall(code)}
    if in_header != in_code:
        faults.append(f"the header names KEYS {sorted(in_header)}, the code uses {sorted(in_code)}")
    faults += [f"{found[0].strip()!r} is not allowed" for found in _FORBIDDEN.finditer(code)]
    return [f"{script.id}: {fault}" for fault in faults]


def manifest_faults(scripts: Mapping[str, Script], pins: Mapping[str, object]) -> list[str]:
    """Where files and manifest disagree: changed, missing, or not pinned yet."""
    faults = [
        f"{id_}: pinned in {MANIFEST}, but the file is gone" for id_ in pins.keys() - scripts.keys()
    ]
    for script in scripts.values():
        if script.id not in pins:
            faults.append(f"{script.id}: not in {MANIFEST}; pin it with `flask lua pin`")
        elif pins[script.id] != pin(script):
            faults.append(f"{script.id}: changed since it was pinned; make it a new version")
    return sorted(faults)


def pin(script: Script) -> dict[str, object]:
    """The manifest's entry for a script."""
    return {"sha1": script.sha, "keys": script.keys}


def pinned(folder: Path) -> dict[str, object]:
    """The manifest as it stands; empty where there is none."""
    path = folder / MANIFEST
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def write_pins(folder: Path = FOLDER) -> list[str]:
    """Add the scripts that the manifest doesn't name yet; never touch one that it does.

    Returns: the ids added.
    """
    pins = pinned(folder)
    new = [s for s in map(read, sorted(folder.glob("*.lua"))) if s.id not in pins]
    pins.update({script.id: pin(script) for script in new})
    text = json.dumps(dict(sorted(pins.items())), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return [script.id for script in new]


def _split(source: str) -> tuple[list[str], str]:
    lines = source.split("\n")
    end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    code = "\n".join(re.sub(r"--.*", "", line) for line in lines[end:])
    return lines[:end], code


def _starts(header: Sequence[str], start: str) -> bool:
    return any(line.startswith(start) for line in header)


def _indexes(header: Sequence[str]) -> list[str]:
    return [m["index"] for line in header if (m := _HEADER_KEY.match(line))]


def _keys_of(source: str) -> int | str:
    header, _ = _split(source)
    indexes = _indexes(header)
    return f"{len(indexes)}+" if any(".." in index for index in indexes) else len(indexes)
