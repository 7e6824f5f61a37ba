"""Whom a request counts for, and for how much: what the tables of `app.api.limits` choose from."""

from __future__ import annotations

import hashlib

from flask import g

from app.api.bodies import peeked
from app.api.schemas.accounts import EMAIL_MAX
from app.services import accounts


def by_caller() -> str:
    """The account of a good token, else the address."""
    actor = g.get("actor")
    return f"account:{actor.account_id}" if actor else by_address()


def by_address() -> str:
    """The client's address, for IPv6 its network."""
    return f"address:{g.client_address}"


def by_log_in() -> str:
    """The account that somebody tries to log in to, from where they are.

    With the address in it, so that nobody can lock an account's owner out by trying to log in from
    somewhere else; hashed, because it is what the client sent, and somebody's e-mail address.
    Somebody who is logged in tries the password of that account.
    """
    actor = g.get("actor")
    if actor:
        return f"login:{actor.account_id}:{g.client_address}"
    given = peeked().get("email")
    # What the schema will refuse names no account: reading it would be work for whoever sends it.
    is_text = isinstance(given, str) and len(given) <= EMAIL_MAX
    email = _spelt_one_way(str(given)) if is_text else ""
    digest = hashlib.blake2b(email.encode(errors="replace"), digest_size=12)
    return f"login:{digest.hexdigest()}:{g.client_address}"


def items_of_body() -> int:
    """What a batch costs: its items, at least 1."""
    items = peeked().get("items")
    return max(1, len(items)) if isinstance(items, list) else 1


def _spelt_one_way(email: str) -> str:
    """As the look-up of the account reads it: `ann@ｅxample.com` is no way round a limit."""
    try:
        return accounts.normal_email(email)
    except ValueError:
        return email
