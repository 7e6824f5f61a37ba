"""Values as they are stored: what goes in comes out, and what nobody packed is refused."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.coordination.values import packed, unpacked


@given(st.binary(max_size=5_000))
def test_what_is_packed_is_unpacked(value: bytes) -> None:
    assert unpacked(packed(value)) == value


@pytest.mark.parametrize(("size", "kind"), [(0, b"="), (2_047, b"="), (2_048, b"z")])
def test_from_two_kilobytes_on_it_is_compressed(size: int, kind: bytes) -> None:
    assert packed(b"a" * size)[:1] == kind


def test_what_repeats_itself_takes_a_fraction() -> None:
    assert len(packed(b'{"title": "Task"}' * 1_000)) < 500


def test_what_cannot_be_compressed_grows_by_little() -> None:
    assert len(packed(secrets.token_bytes(100_000))) < 100_100


@pytest.mark.parametrize(
    "stored", [b"", b"plain", b"z", b"zplain", b"\x80\x04K\x01.", packed(b"a" * 4_096)[:-1]]
)
def test_what_nobody_packed_is_refused(stored: bytes) -> None:
    """A pickle among them."""
    with pytest.raises(ValueError, match=r"begins with|decompress"):
        unpacked(stored)
