"""Internet addresses as people, proxies and logs write them, and as rate limits count them."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

_IPV6_PREFIX = 64  # what one customer gets: all of its addresses are one client
_MOST_CHARACTERS = 80  # what is remembered was written by anybody
_IN_BRACKETS = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")


def address_in(text: str) -> Address | None:
    """The address of `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.

    An IPv4 address that is written as IPv6 is the IPv4 address. None: it is none of these.
    """
    return _address_in(text) if len(text) <= _MOST_CHARACTERS else None


@lru_cache(maxsize=4_096)
def _address_in(text: str) -> Address | None:
    bracketed = _IN_BRACKETS.fullmatch(text)
    found = bracketed or _WITH_PORT.fullmatch(text)
    bare, port = found.groups() if found else (text, None)
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if int(port or 0) > 65_535 or (bracketed and address.version == 4):
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def counted_as(address: Address) -> str:
    """What a limit counts an address by: itself, or for IPv6 its network of 64 bits."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)
