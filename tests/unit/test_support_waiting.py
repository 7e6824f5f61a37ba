"""`eventually` waits no longer than it must, and says what it waited for."""

from __future__ import annotations

import pytest

from tests.support.waiting import eventually


def test_it_returns_the_first_truthy_answer() -> None:
    answers = iter([None, 0, "", "yes", "later"])
    assert eventually(lambda: next(answers)) == "yes"


def test_it_fails_with_what_was_awaited_and_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"the moon: not within 0\.01 s \(last answer: 0\)"):
        eventually(lambda: 0, timeout_s=0.01, what="the moon")


def test_an_error_of_the_condition_ends_the_waiting() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0)
