"""What a process reads whose gate is shut: the database, and its own memory once Redis is lost."""

from __future__ import annotations

from collections.abc import Callable

from app.coordination.breaker import State
from tests.services.cache_site import Site
from tests.support.proxy import Proxy


def read(site: Site, value: int) -> tuple[int, float, float]:
    """What is read where the database has `value`; how often so far from it, and from memory."""
    shown, events = site.read(value), site.metrics.cache
    return (
        shown,
        events.labels("gated_database")._value.get(),
        events.labels("gated_memory")._value.get(),
    )


def unanswered_look(site: Site, proxy: Proxy) -> None:
    proxy.cut()
    site.relay._turn()
    proxy.restore()
    site._client.breaker.succeeded()


def test_a_first_look_without_an_answer_hides_no_acknowledged_write_from_the_next_request(
    site: Site, make_site: Callable[[str], Site], valkey_proxy: Proxy
) -> None:
    """Redis is well, and the others tell it and read it."""
    new = make_site(valkey_proxy.url)
    unanswered_look(new, valkey_proxy)
    assert read(new, 0) == (0, 1, 0)
    site.change()
    assert read(new, 1) == (1, 2, 0)


def test_a_process_that_has_seen_redis_lost_remembers_for_itself(
    make_site: Callable[[str], Site], valkey_proxy: Proxy
) -> None:
    site = make_site(valkey_proxy.url).ready()
    unanswered_look(site, valkey_proxy)
    site.ahead_s = 10
    assert read(site, 0) == (0, 0, 1)
    assert read(site, 1) == (0, 0, 2)


def test_a_process_that_never_saw_redis_remembers_for_itself_once_its_breaker_is_open(
    make_site: Callable[[str], Site], valkey_proxy: Proxy
) -> None:
    new = make_site(valkey_proxy.url)
    valkey_proxy.cut()
    while new._client.breaker.state is State.CLOSED:
        new.relay._turn()
    assert read(new, 0) == (0, 0, 1)
    assert read(new, 1) == (0, 0, 2)
