"""What ought not to happen to the outbox or the cache must not shut every process's gate."""

from __future__ import annotations

import pytest

from app.coordination import keys
from tests.services.cache_site import HOME, Site, age, outbox, record
from tests.support.redis_servers import Valkey


@pytest.mark.parametrize("wrong", ["meta", "tags"])
def test_a_namespace_with_a_key_of_a_wrong_type_is_begun_anew_and_the_gate_opens(
    site: Site, valkey: Valkey, wrong: str
) -> None:
    site.read(0)
    name = getattr(keys.cache(HOME, ""), wrong)
    with valkey.client() as raw:
        raw.delete(name)
        raw.set(name, "not ours")
    record(site.db)
    age(site.db)
    assert site.relay.look()
    assert (site.read(1), outbox(site.db)) == (1, [site.cache.history()])
