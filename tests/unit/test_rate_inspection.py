"""Who has used up what, as operators see it: on one server and on a cluster, whatever the names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.coordination import keys
from app.coordination.rate_inspection import RateInspection
from app.coordination.rate_limit import OWED_MS
from app.coordination.rates import Limit
from app.coordination.scan import keys_like
from app.errors import RedisUnavailable
from tests.support.rate_place import SCRIPTS, Place
from tests.support.redis_servers import Valkey, ValkeyCluster

READS = Limit("reads/10/1/minute", 10, 60_000)
WRITES = Limit("writes/4/2/hour", 4, 7_200_000)
MANY = Limit("reads/1000/1/day", 1_000, 86_400_000)

# Each beside one that a careless pattern would take for it.
STRANGE = [
    ("account:*", "account:1"),
    ("account:?", "account:1"),
    ("account:[12]", "account:1"),
    ("account:[^2]", "account:1"),
    ("account:\\*", "account:\\1"),
    ("a{b}c", "a{b}d"),
    ("}:rate:", "}"),
    ("per % cent", "per %25 cent"),
    ("späße", "spasse"),
    ("x" * 500 + "a", "x" * 500 + "b"),
    ("*" * 500, "*" * 499),
    ("", "a"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster.start(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(params=["valkey", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    where = request.getfixturevalue(request.param)
    where.reset()
    with Place.on(where) as place:
        yield place


@pytest.fixture
def inspection(place: Place) -> RateInspection:
    return RateInspection(place.client(), SCRIPTS)


def test_what_an_identity_has_used_is_told_by_limit(
    place: Place, inspection: RateInspection
) -> None:
    rates = place.rates()
    rates.admit("account:1", [READS._replace(cost=7), WRITES])
    rates.admit("account:2", [READS])
    reads, writes = inspection.of("account:1")
    assert (reads.identity, reads.limit, reads.used, reads.amount, reads.window_s) == (
        *("account:1", "reads/10/1/minute"),
        *(7, 10, 60),
    )
    assert (writes.used, writes.amount, writes.window_s, writes.share) == (1, 4, 7_200, 0.25)
    assert 0 < reads.reset_s <= 60 < writes.reset_s <= 7_200
    assert reads.as_dict()["share"] == 0.7
    assert inspection.of("account:3") == []


def test_looking_takes_nothing(place: Place, inspection: RateInspection) -> None:
    place.rates().admit("account:1", [READS, MANY])
    for _ in range(3):
        assert [usage.used for usage in inspection.of("account:1")] == [1, 1]
        assert len(inspection.top(5)) == 2


def test_the_fullest_are_told_first_wherever_they_are(
    place: Place, inspection: RateInspection
) -> None:
    rates = place.rates()
    for number in range(1, 10):
        rates.admit(f"account:{number}", [READS._replace(cost=number), MANY._replace(cost=99)])
    top = inspection.top(3)
    assert [(each.identity, each.used) for each in top] == [
        ("account:9", 9),
        ("account:8", 8),
        ("account:7", 7),
    ]
    everyone = inspection.top(100)
    assert len(everyone) == 18
    assert [each.share for each in everyone[9:]] == [0.099] * 9
    assert [each.share for each in everyone] == sorted((e.share for e in everyone), reverse=True)
    assert inspection.top(0) == []


def test_more_than_fit_in_one_question_are_ranked_too(
    place: Place, inspection: RateInspection
) -> None:
    rates = place.rates()
    rates.admit_all([(f"account:{number}", [MANY]) for number in range(1_100)])
    rates.admit_all([(f"account:{number}", [MANY]) for number in (3, 700, 1_099)])
    top = inspection.top(4)
    assert [each.identity for each in top[:3]] == ["account:1099", "account:3", "account:700"]
    assert [each.used for each in top] == [2, 2, 2, 1]


@pytest.mark.parametrize(("identity", "neighbour"), STRANGE)
def test_an_identity_is_found_and_reset_by_its_own_name_alone(
    place: Place, inspection: RateInspection, identity: str, neighbour: str
) -> None:
    rates = place.rates()
    rates.admit(identity, [READS, WRITES._replace(cost=4)])
    rates.admit(neighbour, [READS])
    assert [usage.limit for usage in inspection.of(identity)] == [READS.name, WRITES.name]
    shown = inspection.top(1)[0].identity
    assert shown == identity or len(identity) >= 500
    assert [usage.identity for usage in inspection.top(9)].count(shown) == 2
    assert [usage.limit for usage in inspection.of(shown)] == [READS.name, WRITES.name]
    assert inspection.reset(shown) == 2
    assert inspection.of(identity) == []
    assert [usage.limit for usage in inspection.of(neighbour)] == [READS.name]


def test_a_long_identity_is_shown_so_that_it_can_be_reset(
    place: Place, inspection: RateInspection
) -> None:
    for identity in ("{" * 500 + "a", "{" * 500 + "b"):
        place.rates().admit(identity, [READS])
    first, second = (usage.identity for usage in inspection.top(9))
    assert (first != second, first[:9], second[:9]) == (True, "{" * 9, "{" * 9)
    assert inspection.reset(first) == 1
    assert [usage.identity for usage in inspection.top(9)] == [second]


def test_after_a_reset_nothing_of_before_is_given_back(
    place: Place, inspection: RateInspection
) -> None:
    rates = place.rates()
    before = rates.admit("account:1", [READS, MANY])
    assert inspection.reset("account:1") == 2
    assert inspection.reset("account:1") == 0
    rates.admit("account:1", [READS, MANY])
    rates.refund(before)
    assert [usage.used for usage in inspection.of("account:1")] == [1, 1]
    marker = keys.rate_reset("account:1")
    assert 0 < place.raw_of(marker).pttl(marker) <= OWED_MS


def test_a_key_that_scan_repeats_is_told_once(
    place: Place, inspection: RateInspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.rates().admit("account:1", [READS, MANY])
    twice = "app.coordination.rate_inspection.keys_like"
    monkeypatch.setattr(twice, lambda *args: [*keys_like(*args), *keys_like(*args)])
    assert [usage.limit for usage in inspection.of("account:1")] == [READS.name, MANY.name]
    assert [usage.limit for usage in inspection.top(9)] == [READS.name, MANY.name]
    assert inspection.reset("account:1") == 2


def test_keys_of_other_kinds_are_passed_by(place: Place, inspection: RateInspection) -> None:
    place.rates().admit("account:1", [READS])
    for name in ("sweep", "without an amount", "reads/0x/1/minute", "reads/5/1/century"):
        key = keys.rate("account:1", name)
        place.raw_of(key).set(key, "not a log")
    assert [usage.limit for usage in inspection.top(9)] == [READS.name]


def test_a_lost_server_is_said_to_be_lost(valkey: Valkey) -> None:
    with Place.on(valkey) as place:
        inspection = RateInspection(place.client(), SCRIPTS)
        valkey.kill()
        with pytest.raises(RedisUnavailable):
            inspection.top(1)
        with pytest.raises(RedisUnavailable):
            inspection.reset("account:1")
