"""What a password may be: 8 to 128 characters, and not what is tried first.

No composition is asked for (NIST SP 800-63B-4, 3.1.1.2; OWASP ASVS 5, 6.2): only what guessers try
in their first minutes is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.errors import FieldError, InvalidInput
from app.services.text_rules import text_rule

PASSWORD_MIN, PASSWORD_MAX = 8, 128
_FEWEST_DIFFERENT = 4
_SHORTEST_RUN = 3
_SHORTEST_OWN = 4  # shorter parts of an address, such as `al`, are in many good passwords
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik",
    "1q2w3e4r5t6y7u8i9o0p",
)
_RUNS = tuple(row for each in _ROWS for row in (each, each[::-1]))
# Those that lead every list of leaked passwords, as they read without digits and signs around them.
_TRIED = """
    password passwort passw pass motdepasse contrasena letmein welcome willkommen admin
    administrator root changeme default secret master login access iloveyou monkey dragon
    football baseball superman batman sunshine princess shadow trustno starwars whatever
    computer internet hello freedom michael jordan summer winter spring autumn qwerty taskflow
    test testtest guest user temp temporary
"""
_WORDS = frozenset(_TRIED.split())
_SPELT = str.maketrans(
    {"@": "a", "4": "a", "0": "o", "1": "i", "!": "i", "3": "e", "$": "s", "5": "s"}
)
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")

sized = text_rule(least=PASSWORD_MIN, most=PASSWORD_MAX)
"""The rule for its size and its characters alone."""


def check_password(password: str, *, own: Sequence[str] = (), field: str = "password") -> str:
    """`password`, if an account may have it.

    Args:
        own: what is known of its owner, such as the address and the name.
        field: what the caller calls it.

    Raises:
        InvalidInput: too short, too long, or among the first that are tried.
    """
    try:
        sized(password)
        if _is_common(password.casefold()) or _is_own(password.casefold(), own):
            raise ValueError("is one of those that are tried first; choose another")
    except ValueError as error:
        raise InvalidInput(
            "The password cannot be taken.", [FieldError(field, str(error))]
        ) from None
    return password


def _is_common(password: str) -> bool:
    bare = _EDGES.sub("", password)
    words = {bare, _EDGES.sub("", password.translate(_SPELT)), bare.translate(_SPELT)}
    return len(set(password)) < _FEWEST_DIFFERENT or bool(words & _WORDS) or _is_runs(password)


def _is_runs(password: str) -> bool:
    """Whether nothing is left once the runs of keyboards, alphabet and digits are taken out."""
    at = 0
    while at < len(password):
        length = _run_at(password, at)
        if length < _SHORTEST_RUN:
            return False
        at += length
    return True


def _run_at(password: str, at: int) -> int:
    length = 0
    while at + length < len(password) and any(password[at : at + length + 1] in r for r in _RUNS):
        length += 1
    return length


def _is_own(password: str, own: Sequence[str]) -> bool:
    """Whether it is the owner's address or name, with digits and signs around it or not."""
    parts = {part for text in own for part in (text, text.partition("@")[0])}
    known = {part.casefold() for part in parts if len(part) >= _SHORTEST_OWN}
    return password in known or _EDGES.sub("", password) in known
