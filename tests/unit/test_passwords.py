"""Which passwords are refused, and how many are hashed at a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from argon2 import PasswordHasher

from app.errors import HashingBusy, InvalidInput
from app.services.password_rules import check_password
from app.services.passwords import Passwords
from tests.support.waiting import eventually

OWN = ("ann.smith@example.com", "Ann Smith")


@pytest.mark.parametrize(
    "password",
    ["password", "Password1!", "P@ssw0rd123", "12345678", "87654321", "aaaaaaaa", "abcabcab",
     "qwertyuiop", "qwerty123", "1qaz2wsx", "abcd1234", "asdfghjkl", "letmein!!", "iloveyou",
     "ann.smith", "Ann.Smith7", "ANN SMITH", "ann.smith@example.com", "TaskFlow2026", "11112222"],
)  # fmt: skip
def test_what_is_tried_first_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_password(password, own=OWN, field="new_password")
    (error,) = refused.value.errors
    assert (error.field, "tried first" in error.message) == ("new_password", True)


@pytest.mark.parametrize(
    "password",
    ["correct horse", "pässwörd 密码", "my password is a poem", "welcome to the 4th floor",
     "aqueduct-12345", "smith and ann", "x7Kp2mQz", "no rhyme" * 16],
)  # fmt: skip
def test_what_is_not_is_taken_as_it_is(password: str) -> None:
    assert check_password(password, own=OWN) == password


@pytest.mark.parametrize(("password", "field"), [("7 chars", "password"), ("x y" * 43, "password")])
def test_its_size_is_told_before_anything_else(password: str, field: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be taken") as refused:
        check_password(password)
    (error,) = refused.value.errors
    assert (error.field, error.message) == (field, "must have 8 to 128 characters")


class SlowHasher(PasswordHasher):
    """Argon2 that waits within each verification, and knows how many are under way."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go_on, self.under_way, self.most = threading.Event(), 0, 0
        self._lock = threading.Lock()

    def verify(self, hash: Any, password: Any) -> Any:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            assert self.go_on.wait(timeout=10)
            return super().verify(hash, password)
        finally:
            with self._lock:
                self.under_way -= 1


@pytest.mark.parametrize(("at_once", "seen"), [(2, 2), (8, 8)])
def test_no_more_are_verified_at_a_time_than_the_setting_says(at_once: int, seen: int) -> None:
    """Eight turns for eight threads are the control: all of them are under way at once."""
    hasher = SlowHasher()
    passwords = Passwords(hasher, at_once=at_once, wait_s=10)
    stored, answers = passwords.hash("correct horse"), list[bool]()
    threads = [
        threading.Thread(target=lambda: answers.append(passwords.verify(stored, "correct horse")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: hasher.under_way == seen, what="every turn taken")
    hasher.go_on.set()
    for thread in threads:
        thread.join(10)
    assert (hasher.most, answers) == (seen, [True] * 8)


def test_who_gets_no_turn_in_time_is_told_to_come_again_and_a_child_has_all_of_them() -> None:
    hasher = SlowHasher()
    passwords = Passwords(hasher, at_once=1, wait_s=0.01)
    thread = threading.Thread(target=lambda: passwords.verify(None, "correct horse"))
    thread.start()
    eventually(lambda: hasher.under_way == 1, what="the one turn taken")
    with pytest.raises(HashingBusy):
        passwords.hash("battery staple")
    passwords.begin_afresh()
    assert passwords.hash("battery staple").startswith("$argon2id$")
    hasher.go_on.set()
    thread.join(10)
