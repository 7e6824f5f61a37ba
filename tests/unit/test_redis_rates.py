"""Rate limits on real servers: how often they are asked, and one request of several identities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from app.coordination import keys
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.rates import DecidedBy, Decision, Limit
from app.errors import CoordinationError
from tests.support.proxy import Proxy
from tests.support.rate_place import Place
from tests.support.redis_servers import Valkey, ValkeyCluster

MINUTE = Limit("minute", 3, 60_000)
HOUR = Limit("hour", 100, 3_600_000)
# One after the other on two nodes of a cluster of three; `a` and `d` on the same.
FIRST, SECOND = "a", "b"
OF_SECOND = keys.rate(SECOND, "minute")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def on_cluster(cluster: ValkeyCluster) -> Iterator[Place]:
    cluster.reset()
    with Place.on(cluster) as place:
        yield place


@pytest.fixture
def on_valkey(valkey: Valkey) -> Iterator[Place]:
    with Place.on(valkey) as place:
        yield place


@pytest.fixture(params=["on_valkey", "on_cluster"])
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(request.param)
    return place


class Keeping(RedisRates):
    """The control: what was taken stays taken."""

    def _give_back(self, decisions: Sequence[Decision]) -> list[Decision]:
        return list(decisions)


def warm(rates: RedisRates) -> None:
    """Connections to all nodes, and the scripts on them."""
    for identity in "abcdef":
        decision = rates.admit(f"warm {identity}", [HOUR])
        rates.refund(decision)


def test_two_identities_are_decided_in_one_exchange(on_valkey: Place) -> None:
    rates = on_valkey.rates()
    warm(rates)
    ran = on_valkey.scripts_run()
    assert on_valkey.exchanges(lambda: rates.admit_all([("a", [MINUTE]), ("b", [HOUR])])) == 1
    assert on_valkey.scripts_run() - ran == 2


@pytest.mark.parametrize(("second", "exchanges"), [("b", 2), ("d", 1)])
def test_on_a_cluster_there_is_one_exchange_with_each_node(
    on_cluster: Place, second: str, exchanges: int
) -> None:
    rates = on_cluster.rates()
    warm(rates)
    ran = on_cluster.scripts_run()
    asked = [("a", [MINUTE, HOUR]), (second, [HOUR])]
    assert on_cluster.exchanges(lambda: rates.admit_all(asked)) == exchanges
    assert on_cluster.scripts_run() - ran == 2


def test_sixty_four_limits_of_one_identity_are_one_script(on_cluster: Place) -> None:
    rates = on_cluster.rates()
    warm(rates)
    ran = on_cluster.scripts_run()
    limits = [Limit(f"limit {number}", 64 - number, 60_000) for number in range(64)]
    assert on_cluster.exchanges(lambda: rates.admit("a", limits)) == 1
    assert on_cluster.scripts_run() - ran == 1
    assert [on_cluster.used("a", limit.name) for limit in limits] == [1] * 64


def _one_of_two_is_denied(place: Place, rates: RedisRates, denied: str) -> None:
    """All or nothing: whoever had room has taken nothing."""
    other = FIRST if denied == SECOND else SECOND
    for _ in range(3):
        assert rates.admit(denied, [MINUTE]).admitted
    decisions = rates.admit_all([(FIRST, [MINUTE, HOUR]), (SECOND, [MINUTE])])
    by_identity = {decision.identity: decision for decision in decisions}
    assert not by_identity[denied].admitted
    assert by_identity[other].admitted
    assert (place.used(other, "minute"), place.used(other, "hour")) == (0, 0)
    assert by_identity[other].standings[0].remaining == 3
    assert place.used(denied, "minute") == 3


@pytest.mark.parametrize("denied", [FIRST, SECOND])
def test_what_one_identity_denies_is_counted_by_none(place: Place, denied: str) -> None:
    rates = place.rates()
    warm(rates)
    ran = place.scripts_run()
    _one_of_two_is_denied(place, rates, denied)
    assert place.scripts_run() - ran == 3 + 2 + 1


def test_without_giving_back_the_other_would_have_counted_it(place: Place) -> None:
    """The control of the test above."""
    with pytest.raises(AssertionError):
        _one_of_two_is_denied(place, place.rates(Keeping), SECOND)


def test_what_was_given_back_is_not_given_back_again(on_valkey: Place) -> None:
    rates = on_valkey.rates()
    for _ in range(3):
        rates.admit(SECOND, [MINUTE])
    given_back, _ = rates.admit_all([(FIRST, [HOUR]), (SECOND, [MINUTE])])
    rates.admit(FIRST, [HOUR])
    rates.refund(given_back)
    assert on_valkey.used(FIRST, "hour") == 1


def test_what_one_node_refuses_is_given_back_on_the_other(on_cluster: Place) -> None:
    rates = on_cluster.rates()
    warm(rates)
    on_cluster.raw_of(OF_SECOND).config_set("maxmemory", 1)
    decisions = rates.admit_all([(FIRST, [HOUR]), (SECOND, [MINUTE])])
    assert [each.by for each in decisions] == [DecidedBy.NOBODY] * 2
    assert on_cluster.used(FIRST, "hour") == 0


@pytest.fixture
def to_second(cluster: ValkeyCluster) -> Iterator[Proxy]:
    """On the way to the node of the second identity."""
    with Proxy.start(cluster.server_of(OF_SECOND).port) as proxy:
        yield proxy


def _one_of_two_nodes_breaks_off(
    place: Place, proxy: Proxy, how: str, kind: type[RedisRates] = RedisRates
) -> None:
    """What the other one took is given back; what the request took itself, if it ran, is not."""
    rates = place.rates(kind, by={OF_SECOND: proxy.port})
    warm(rates)
    if how == "cut":
        proxy.cut()
    else:
        proxy.drop_reply_once(after=b"EVALSHA")
    decisions = rates.admit_all([(FIRST, [MINUTE, HOUR]), (SECOND, [MINUTE])])
    assert [each.by for each in decisions] == [DecidedBy.NOBODY] * 2
    assert [place.used(FIRST, name) for name in ("minute", "hour")] == [0, 0]
    assert place.used(SECOND, "minute") == (how == "unheard")


@pytest.mark.parametrize("how", ["cut", "unheard"])
def test_where_one_node_breaks_off_what_another_took_is_given_back(
    on_cluster: Place, to_second: Proxy, how: str
) -> None:
    _one_of_two_nodes_breaks_off(on_cluster, to_second, how)


def test_without_giving_back_it_would_have_counted(on_cluster: Place, to_second: Proxy) -> None:
    """The control of the test above."""
    with pytest.raises(AssertionError):
        _one_of_two_nodes_breaks_off(on_cluster, to_second, "cut", Keeping)


def test_where_the_first_node_breaks_off_the_second_is_not_asked(
    on_cluster: Place, to_second: Proxy
) -> None:
    rates = on_cluster.rates(by={OF_SECOND: to_second.port})
    warm(rates)
    to_second.cut()
    decisions = rates.admit_all([(SECOND, [MINUTE]), (FIRST, [HOUR])])
    assert [each.by for each in decisions] == [DecidedBy.NOBODY] * 2
    assert on_cluster.used(FIRST, "hour") == 0


def test_a_refund_gives_back_once_and_a_reset_ends_what_is_owed(place: Place) -> None:
    rates = place.rates()
    first = rates.admit("a", [MINUTE, HOUR])
    second = rates.admit("a", [MINUTE, HOUR])
    rates.refund(first)
    assert (place.used("a", "minute"), place.used("a", "hour")) == (1, 1)
    assert rates.reset("a", ["minute", "hour"]) == 2
    rates.admit("a", [HOUR])
    rates.refund(second)
    assert (place.used("a", "minute"), place.used("a", "hour")) == (0, 1)


def test_a_shadow_that_was_exceeded_and_a_probe_are_owed_nothing(on_valkey: Place) -> None:
    rates = on_valkey.rates()
    shadow, probe = MINUTE._replace(shadow=True), Limit("probe", 5, 60_000, probe=True)
    rates.admit("a", [shadow._replace(cost=3)])
    decision = rates.admit("a", [shadow, probe, HOUR])
    assert decision.admitted
    assert decision.taken == [HOUR]
    rates.refund(decision)
    assert [on_valkey.used("a", name) for name in ("minute", "probe", "hour")] == [3, 0, 0]


@pytest.mark.parametrize("exact", [True, False])
def test_refunds_go_by_how_the_limits_hits_are_kept(on_valkey: Place, exact: bool) -> None:
    rates, limit = on_valkey.rates(), Limit("day", 1_000, 86_400_000, exact=exact)
    decisions = [rates.admit("a", [limit._replace(cost=cost)]) for cost in (1, 2, 3)]
    for decision, left in zip(decisions, (5, 3, 0), strict=True):
        rates.refund(decision)
        assert on_valkey.used("a", "day") == left


def test_a_killed_server_leaves_each_process_its_share(valkey: Valkey, on_valkey: Place) -> None:
    rates = on_valkey.rates(on_loss=OnLoss.LOCAL, fleet_size=lambda: 3)
    assert rates.admit("a", [MINUTE]).by is DecidedBy.SERVER
    valkey.kill()
    decisions = [rates.admit("a", [MINUTE]) for _ in range(2)]
    assert [each.by for each in decisions] == [DecidedBy.PROCESS] * 2
    assert [each.admitted for each in decisions] == [True, False]
    rates.refund(decisions[0])
    assert rates.admit("a", [MINUTE]).admitted
    with pytest.raises(CoordinationError):
        rates.reset("a", ["minute"])
    assert rates.admit("a", [MINUTE]).admitted  # this process has forgotten its own
    valkey.restart()
    assert rates.admit("a", [MINUTE]).by is DecidedBy.SERVER
