"""The contract of `lua/`: names, headers, keys, the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.coordination.scripts import (
    FOLDER,
    MANIFEST,
    ScriptRegistry,
    contract_faults,
    pinned,
    read,
    write_pins,
)
from app.errors import ScriptContractError

GOOD = """-- thing_touch v1 - touch a thing
--
-- KEYS[1] string tf:1:{thing:<name>}  a thing
-- ARGV[1] ttl  ms
--
-- Returns 1
-- Clock: none
-- Atomic because: it is one command
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "thing_touch.v1.lua").write_text(GOOD)
    return tmp_path


def test_every_script_of_the_service_keeps_the_contract_and_is_pinned() -> None:
    scripts = ScriptRegistry.from_folder()
    scripts.verify()
    assert set(scripts) == set(pinned(FOLDER))


def test_a_good_script_has_no_fault(folder: Path) -> None:
    assert contract_faults(read(folder / "thing_touch.v1.lua")) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("v1 - touch", "v2 - touch", "the first line must be '-- thing_touch v1 - purpose'"),
        ("-- Clock: none\n", "", "the header has no line '-- Clock:'"),
        ("-- Returns 1\n", "", "the header has no line '-- Returns'"),
        ("-- Atomic because: it is one command\n", "", "no line '-- Atomic because:'"),
        ("'1', 'PX'", "KEYS[2], 'PX'", "the header names KEYS ['1'], the code uses ['1', '2']"),
        ("return 1", "return struct.pack('I', 1)", "'struct' is not allowed"),
        ("return 1", "total = 1\nreturn total", "'total =' is not allowed"),
    ],
)
def test_a_broken_header_or_body_is_told(folder: Path, before: str, after: str, fault: str) -> None:
    path = folder / "thing_touch.v1.lua"
    path.write_text(GOOD.replace(before, after))
    (found,) = contract_faults(read(path))
    assert fault in found


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "touch.lua").write_text(GOOD)
    with pytest.raises(ScriptContractError, match=r"<noun>_<verb>\.v<N>\.lua"):
        ScriptRegistry.from_folder(tmp_path)


def test_a_script_that_is_not_pinned_stops_the_start_and_names_the_mend(folder: Path) -> None:
    with pytest.raises(ScriptContractError, match="pin it with `flask lua pin`"):
        ScriptRegistry.from_folder(folder).verify()
    assert write_pins(folder) == ["thing_touch.v1"]
    ScriptRegistry.from_folder(folder).verify()
    assert ScriptRegistry.from_folder(folder)["thing_touch.v1"].keys == 1


def test_a_pinned_script_that_changed_stops_the_start(folder: Path) -> None:
    write_pins(folder)
    (folder / "thing_touch.v1.lua").write_text(GOOD.replace("'1'", "'2'"))
    with pytest.raises(ScriptContractError, match="changed since it was pinned"):
        ScriptRegistry.from_folder(folder).verify()
    assert write_pins(folder) == []


def test_a_pinned_script_that_is_gone_stops_the_start(folder: Path) -> None:
    write_pins(folder)
    (folder / "thing_touch.v1.lua").unlink()
    with pytest.raises(ScriptContractError, match="the file is gone"):
        ScriptRegistry.from_folder(folder).verify()


def test_a_new_version_stands_beside_the_old_one(folder: Path) -> None:
    write_pins(folder)
    (folder / "thing_touch.v2.lua").write_text(GOOD.replace("v1 -", "v2 -"))
    assert write_pins(folder) == ["thing_touch.v2"]
    assert list(ScriptRegistry.from_folder(folder)) == ["thing_touch.v1", "thing_touch.v2"]


def test_the_manifest_pins_checksum_and_number_of_keys(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "rate_admit.v1.lua", tmp_path)
    write_pins(tmp_path)
    pins = json.loads((tmp_path / MANIFEST).read_text())
    assert pins["rate_admit.v1"]["keys"] == "1+"
    assert len(pins["rate_admit.v1"]["sha1"]) == 40
