"""Key names: in one slot, escaped, bounded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from app.coordination import keys
from tests.support.redis_servers import Valkey


def test_names_read_as_the_headers_of_the_scripts_say() -> None:
    assert keys.lock("sweep") == keys.LockKeys(
        lease="tf:1:{lock:sweep}:lease",
        fence="tf:1:{lock:sweep}:fence",
        waiters="tf:1:{lock:sweep}:waiters",
        wake="tf:1:{lock:sweep}:wake",
    )
    assert keys.cron("overdue", 3600) == (
        "tf:1:{cron:overdue}:lease",
        "tf:1:{cron:overdue}:done:3600",
    )
    assert keys.rate("account:7", "reads/60") == "tf:1:{account:7}:rate:reads/60"


@given(st.text(), st.text())
def test_whatever_the_names_the_keys_of_one_decision_share_a_slot(first: str, second: str) -> None:
    for names in (keys.cache(first, second), keys.lock(first), keys.cron(first, 3600)):
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


@given(st.text())
def test_a_part_is_told_by_the_name_it_was_made_of_unless_it_was_cut(name: str) -> None:
    part = keys.safe(name)
    plain = keys.plain(part)
    assert plain == part or keys.safe(plain) == part
    if "~" not in part:  # which a cut one has before its hash
        assert plain == name


@given(st.text(), st.text())
def test_a_cached_entry_is_found_again_by_its_key(namespace: str, key: str) -> None:
    names = keys.cache(namespace, key)
    for found, told in ((names.entry, keys.plain(keys.safe(key))), (names.meta, None)):
        place = keys.cached_of(found)
        assert place
        assert (place.key, place.meta, place.tags) == (told, names.meta, names.tags)
        assert place.namespace == keys.plain(keys.safe(namespace))
    assert [keys.cached_of(other) for other in (names.tags, names.fill)] == [None] * 2
    assert keys.cached_of(keys.rate(namespace, key)) is None


def test_long_names_that_differ_at_the_end_stay_two() -> None:
    assert keys.safe("x" * 500 + "a") != keys.safe("x" * 500 + "b")


@given(st.text(max_size=33) | st.text("{}% ~\x1b\x85ä€", max_size=33))
def test_a_name_is_read_back_from_its_part(name: str) -> None:
    assert keys.name_of(keys.safe(name)) == name


@given(st.text("{}% ~\x1b\x85ä€a", min_size=60, max_size=300))
def test_what_is_read_back_of_a_name_that_was_cut_makes_the_same_part(name: str) -> None:
    part = keys.safe(name)
    assert keys.safe(keys.name_of(part)) == part


@pytest.mark.parametrize("length", range(150, 175))
@pytest.mark.parametrize("unsafe", [" ", "{", "%", "\x85"])
def test_no_escape_is_cut_in_two(length: int, unsafe: str) -> None:
    part = keys.safe("a" * length + unsafe * 50)
    kept, tilde, digest = keys.name_of(part).rpartition("~")
    assert (tilde, len(digest)) == ("~", 32)
    assert kept.rstrip(unsafe) == "a" * min(length, len(kept))


@pytest.mark.parametrize("part", ["%ff", "%c2", "%41", "a%", "%2", "{", " ", "x" * 201])
def test_what_is_no_part_is_no_name(part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part[:9])):
        keys.name_of(part)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", fullmatch=True))
def test_the_name_of_a_lock_is_found_again_in_its_lease_and_in_no_other_key(name: str) -> None:
    lease, *others = keys.lock(name)
    assert keys.lock_of(lease) == name
    assert [keys.lock_of(key) for key in others] == [None] * 3


def test_the_keys_of_leases_of_locks_are_told_from_all_others(valkey: Valkey) -> None:
    others = [*keys.lock("c")[1:], *keys.cron("lock:d", 3600), *keys.cache("lock:e", "lease")]
    with valkey.client() as raw:
        for key in [keys.lock("a").lease, keys.lock("b/c:d").lease, *others]:
            raw.set(key, "1")
        found = set(raw.scan_iter(keys.LOCKS))
    assert {keys.lock_of(key) for key in found} == {"a", "b/c:d"}
    assert [key for key in others if keys.lock_of(key)] == []
