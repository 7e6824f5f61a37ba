"""Key names: in one slot, escaped, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from app.coordination import keys


def test_names_read_as_the_headers_of_the_scripts_say() -> None:
    assert keys.lock("sweep") == ("tf:1:{lock:sweep}:lease", "tf:1:{lock:sweep}:fence")
    assert keys.cron("overdue", 3600) == (
        "tf:1:{cron:overdue}:lease",
        "tf:1:{cron:overdue}:done:3600",
    )
    assert keys.rate("account:7", "reads/60") == "tf:1:{account:7}:rate:reads/60"


@given(st.text(), st.text())
def test_whatever_the_names_the_keys_of_one_decision_share_a_slot(first: str, second: str) -> None:
    names = keys.cache(first, second)
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert all(name.count("{") == name.count("}") == 1 for name in names)


@given(st.text(min_size=1))
def test_a_part_is_bounded_and_has_no_space_or_control_character(name: str) -> None:
    part = keys.safe(name)
    assert len(part.encode()) <= 200
    assert not any(character.isspace() and character < "\x7f" for character in part)


@given(st.text(), st.text())
def test_two_names_stay_two(first: str, second: str) -> None:
    assert (keys.safe(first) == keys.safe(second)) == (first == second)


def test_long_names_that_differ_at_the_end_stay_two() -> None:
    assert keys.safe("x" * 500 + "a") != keys.safe("x" * 500 + "b")
