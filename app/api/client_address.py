"""Whose address a request comes from, behind proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from flask import request

Networks = Sequence[IPv4Network | IPv6Network]

_IPV6_PREFIX = 64  # what one customer gets: all of its addresses are one client


def networks(text: str | None) -> Networks:
    """The networks of `TRUSTED_PROXIES`."""
    return [ip_network(each.strip()) for each in text.split(",")] if text else []


def client_address(trusted: Networks) -> str:
    """The address nearest to us that no trusted proxy has; for IPv6 its network of 64 bits.

    `X-Forwarded-For` is read from its right end, where our own proxies write, and only where the
    peer is one of them: what a client writes itself stands further left.
    """
    hops = [request.remote_addr or ""]
    if trusted:
        hops = [*",".join(request.headers.getlist("X-Forwarded-For")).split(","), *hops]
    found = hops.pop().strip()
    while hops and _is_in(found, trusted):
        further = hops.pop().strip()
        if not _is_address(further):
            break
        found = further
    return _network_of(found)


def _is_in(address: str, trusted: Networks) -> bool:
    # A unix socket has no address: whoever may write to it is a proxy of this machine.
    return not address or (
        _is_address(address) and any(_parsed(address) in network for network in trusted)
    )


def _network_of(address: str) -> str:
    if not _is_address(address):
        return address
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)


def _is_address(text: str) -> bool:
    try:
        _parsed(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4_096)
def _parsed(text: str) -> object:
    address = ip_address(text)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
