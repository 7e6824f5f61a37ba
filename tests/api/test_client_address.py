"""Whose address a request comes from: nobody chooses his own by a header."""

from __future__ import annotations

import random

import pytest
from flask import Flask, request
from werkzeug.datastructures import Headers

from app.api.client_address import client_address, networks

PROXIES = "10.0.0.0/8,192.168.1.7, 2001:db8:aaaa::/48"
PROXY, CLIENT = "10.1.2.3", "203.0.113.9"


def address(peer: str | None, *forwarded: str, trusted: str | None = PROXIES) -> str:
    """What a request of `peer` with these headers, one line each, is counted by."""
    headers = Headers([("X-Forwarded-For", line) for line in forwarded])
    environ = {"REMOTE_ADDR": peer} if peer is not None else {}
    with Flask("x").test_request_context(headers=headers, environ_overrides=environ):
        return client_address(networks(trusted))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (CLIENT, [], CLIENT),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"{CLIENT}, 10.9.9.9"], CLIENT),
        (PROXY, [f"{CLIENT}, 192.168.1.7,10.9.9.9"], CLIENT),
        (PROXY, ["192.168.1.8, 192.168.1.7"], "192.168.1.8"),
        (PROXY, [CLIENT, "10.9.9.9", "192.168.1.7"], CLIENT),
        (PROXY, [f" {CLIENT} "], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, ["10.9.9.9"], "10.9.9.9"),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        ("2001:db8:aaaa::1", [CLIENT], CLIENT),
        ("", [CLIENT], CLIENT),
        ("", [], ""),
    ],
)
def test_the_address_nearest_to_us_that_no_proxy_has_counts(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert address(peer, *forwarded) == expected


def test_who_is_no_trusted_proxy_is_not_believed() -> None:
    assert address(CLIENT, "198.51.100.1") == CLIENT
    assert address(CLIENT, "198.51.100.1", PROXY) == CLIENT
    assert address(PROXY, "198.51.100.1", trusted=None) == PROXY


def test_what_a_client_writes_itself_stands_further_left_and_is_not_read() -> None:
    for forged in ("198.51.100.1", "10.0.0.1", "nonsense", "", ",,,", "127.0.0.1, 10.0.0.1"):
        assert address(PROXY, f"{forged}, {CLIENT}") == CLIENT
        assert address(PROXY, forged, CLIENT) == CLIENT


NETWORK = "2001:db8:1:2::/64"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (f"{CLIENT}:4711", CLIENT),
        (f"{CLIENT}:0", CLIENT),
        (f"{CLIENT}:65535", CLIENT),
        (f" {CLIENT}:4711 ", CLIENT),
        (f"[::ffff:{CLIENT}]:4711", CLIENT),
        ("[2001:db8:1:2::1]:4711", NETWORK),
        ("[2001:DB8:1:2::1]", NETWORK),
        ("2001:db8:1:2::1:4711", NETWORK),  # read as an address: of the same network
        ("[2001:db8:1:2::1%eth0]:4711", NETWORK),
    ],
)
def test_a_port_behind_the_address_says_nothing(entry: str, expected: str) -> None:
    assert address(PROXY, entry) == expected
    assert address(PROXY, f"198.51.100.1:80, {entry}, 10.9.9.9:1, [2001:db8:aaaa::1]:2") == expected


def test_a_client_with_another_port_each_time_is_one_client() -> None:
    found = {address(PROXY, f"{CLIENT}:{port}") for port in range(1, 65_536, 97)}
    assert found == {CLIENT}
    found = {address(PROXY, f"[2001:db8:1:2::{port:x}]:{port}") for port in range(1, 65_536, 97)}
    assert found == {NETWORK}


GARBAGE = [
    "unknown",
    "",
    "999.1.1.1",
    "<script>",
    "\u0661.1.1.1",
    "_hidden",
    f"{CLIENT}:",
    f"{CLIENT}:http",
    f"{CLIENT}:65536",
    f"{CLIENT}:-1",
    f"{CLIENT}:4711:4711",
    f"{CLIENT}:\u0661",
    f"{CLIENT} 4711",
    f"[{CLIENT}]:4711",
    f"[{CLIENT}]",
    f'"{CLIENT}"',
    "203.0.113.09",
    "203.0.113",
    "3405803785",
    "0xcb.0.0x71.9",
    "[2001:db8::1",
    "2001:db8::1]",
    "2001:db8::1]:4711",
    "[[2001:db8::1]]:4711",
    "[2001:db8::1]4711",
    "[2001:db8::1]:",
    "[2001:db8::1]:65536",
    "[]:4711",
    "2001:db8:1:2:3:4:5:6:4711",
    "2001:db8::1/64",
    "2001:db8::1%" + "x" * 8_000,
    "for=" + CLIENT,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: ascii(text)[:30])
def test_behind_garbage_the_proxy_itself_is_counted(garbage: str) -> None:
    assert address(PROXY, garbage) == PROXY
    assert address(PROXY, f"{CLIENT}, {garbage}, 10.9.9.9") == "10.9.9.9"


def test_all_addresses_of_one_ipv6_network_are_one_client() -> None:
    found = {address(f"2001:db8:1:2:{n:x}::{n:x}") for n in range(1, 50)}
    assert found == {"2001:db8:1:2::/64"}
    assert address("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert address(PROXY, "2001:db8:1:2::1, 2001:db8:aaaa::1") == "2001:db8:1:2::/64"


def test_a_zone_is_no_way_to_another_network() -> None:
    found = {address(PROXY, f"2001:db8:1:2::1%{n}") for n in range(50)}
    assert found == {"2001:db8:1:2::/64"}


def test_no_header_that_ends_with_the_clients_address_makes_another_client() -> None:
    """With its control: believing the leftmost entry, one client is many."""
    seed = random.Random(7)
    words = ["198.51.100.{}", "10.0.0.{}", "2001:db8::{}", "x{}", "", "::ffff:10.0.0.{}"]
    believed, leftmost = set(), set()
    for _ in range(300):
        forged = [seed.choice(words).format(seed.randrange(250)) for _ in range(seed.randrange(9))]
        lines = (
            [", ".join(forged), CLIENT] if seed.random() < 0.5 else [", ".join([*forged, CLIENT])]
        )
        believed.add(address(PROXY, *lines))
        leftmost.add(_leftmost(lines))
    assert believed == {CLIENT}
    assert len(leftmost) > 100


def _leftmost(lines: list[str]) -> str:
    headers = Headers([("X-Forwarded-For", line) for line in lines])
    with Flask("x").test_request_context(headers=headers):
        return request.headers.getlist("X-Forwarded-For")[0].split(",")[0].strip()


def test_no_network_is_trusted_unless_it_is_named() -> None:
    assert networks(None) == []
    assert [str(each) for each in networks("10.0.0.0/8, ::1")] == ["10.0.0.0/8", "::1/128"]
