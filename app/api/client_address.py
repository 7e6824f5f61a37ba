"""Whose address a request comes from, behind proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from flask import request

from app.services.addresses import address_in, counted_as

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str | None) -> Networks:
    """The networks of `TRUSTED_PROXIES`."""
    return [ip_network(each.strip()) for each in text.split(",")] if text else []


def client_address(trusted: Networks) -> str:
    """The address nearest to us that no trusted proxy has, as limits count it.

    `X-Forwarded-For` is read from its right end, where our own proxies write, and only where the
    peer is one of them: what a client writes itself stands further left. An entry that is no
    address ends the reading: the proxy that wrote it is counted, so that nobody can choose.
    """
    hops = [request.remote_addr or ""]
    if trusted:
        hops = [*",".join(request.headers.getlist("X-Forwarded-For")).split(","), *hops]
    found = hops.pop().strip()
    while hops and _is_in(found, trusted):
        further = hops.pop().strip()
        if address_in(further) is None:
            break
        found = further
    address = address_in(found)
    return counted_as(address) if address else found


def _is_in(text: str, trusted: Networks) -> bool:
    # A unix socket has no address: whoever may write to it is a proxy of this machine.
    address = address_in(text)
    return not text or (address is not None and any(address in network for network in trusted))
