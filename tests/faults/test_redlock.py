"""A lock kept by three of five servers, with every set of them killed in turn."""

from __future__ import annotations

import pytest

from tests.support.majority import Majority, Site, subsets

SERVERS, QUORUM, PLANTED = 5, 3, 2

Story = list[object]


def test_every_set_of_dead_servers_gives_the_right_answers(stories: dict[int, Story]) -> None:
    assert len(stories) == 2**SERVERS
    assert stories == {dead: _right_story(dead) for dead in stories}


def test_two_of_five_as_the_quorum_would_have_granted_it_without_a_majority(
    planted_stories: dict[int, Story],
) -> None:
    """The control of the test above: wrong for each of the ten sets of three."""
    wrong = [dead for dead, story in planted_stories.items() if story != _right_story(dead)]
    assert len(wrong) == 10
    assert {dead.bit_count() for dead in wrong} == {3}
    assert {str(planted_stories[dead][0]) for dead in wrong} == {"granted"}


@pytest.fixture(scope="module")
def both(five_servers: Majority) -> dict[int, tuple[Story, Story]]:
    """For every set of dead servers the story with the majority, and with the planted quorum."""
    five_servers.reset()
    told = {}
    for dead, changed in subsets(SERVERS):
        if changed is not None:
            server = five_servers.servers[changed]
            server.kill() if dead >> changed & 1 else server.restart()
        told[dead] = _story(five_servers, None), _story(five_servers, PLANTED)
    return told


@pytest.fixture
def stories(both: dict[int, tuple[Story, Story]]) -> dict[int, Story]:
    return {dead: right for dead, (right, _) in both.items()}


@pytest.fixture
def planted_stories(both: dict[int, tuple[Story, Story]]) -> dict[int, Story]:
    return {dead: planted for dead, (_, planted) in both.items()}


def _story(five: Majority, quorum: int | None) -> Story:
    """Two processes after one lock: what each is told, and on how many servers it is held then."""
    name = "sweep"
    with Site(five.urls, quorum=quorum) as first, Site(five.urls, quorum=quorum) as second:
        told: Story = [first.ask(name), five.held(name), second.ask(name), five.held(name)]
        told += [first.free(), five.held(name), second.ask(name), five.held(name)]
        return [*told, second.free(), five.held(name)]


def _right_story(dead: int) -> Story:
    alive = SERVERS - dead.bit_count()
    if alive < QUORUM:
        return ["unknown", 0, "unknown", 0, "nothing", 0, "unknown", 0, "nothing", 0]
    return ["granted", alive, "busy", alive, "freed", 0, "granted", alive, "freed", 0]
