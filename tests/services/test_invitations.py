"""Invitations: one for an address and project, answered once, by whose address it is."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import pytest

from app.db.models import ProjectInvitation, ProjectMember
from app.errors import Conflict, InvalidInput, NotFound
from tests.services.conftest import World
from tests.services.test_members import at_once
from tests.support.database import add_project, rows_in


def invited(world: World, email: str = "bob@example.com", *, role: str = "editor") -> UUID:
    view = world.invitations.invite(world.ann, world.home, email=email, role=role)
    return UUID(view["id"])


def test_an_address_is_invited_once_in_whatever_case(world: World) -> None:
    invited(world)
    with pytest.raises(Conflict):
        invited(world, "Bob@Example.com", role="viewer")
    assert rows_in(world.db, ProjectInvitation) == 1


def test_nobody_else_finds_answers_or_withdraws_it(world: World) -> None:
    invitation_id = invited(world, "cleo@example.com")
    assert world.invitations.received(world.bob, cursor=None, limit=9)["items"] == []
    for answer in (world.invitations.accept, world.invitations.decline):
        with pytest.raises(NotFound, match="invitation"):
            answer(world.bob, invitation_id)
    elsewhere = add_project(world.db, world.bob)
    with pytest.raises(NotFound, match="invitation"):
        world.invitations.withdraw(world.bob, elsewhere, invitation_id)
    assert rows_in(world.db, ProjectInvitation) == 1
    assert rows_in(world.db, ProjectMember) == 2


def test_both_lists_come_in_pages_that_survive_answers(world: World) -> None:
    sent = [str(invited(world, f"m{n}@example.com")) for n in range(5)]
    first = world.invitations.sent(world.ann, world.home, cursor=None, limit=2)
    for gone in (sent[1], sent[3]):
        world.invitations.withdraw(world.ann, world.home, UUID(gone))
    rest = world.invitations.sent(world.ann, world.home, cursor=first["next_cursor"], limit=2)
    shown = [each["id"] for page in (first, rest) for each in page["items"]]
    assert (shown, rest["next_cursor"]) == ([sent[0], sent[1], sent[2], sent[4]], None)

    offers = []
    for number in range(3):
        home = add_project(world.db, world.ann, f"P{number}")
        made = world.invitations.invite(world.ann, home, email="bob@example.com", role="viewer")
        offers.append(made["id"])
    one = world.invitations.received(world.bob, cursor=None, limit=2)
    world.invitations.accept(world.bob, UUID(offers[1]))
    two = world.invitations.received(world.bob, cursor=one["next_cursor"], limit=2)
    assert [each["id"] for page in (one, two) for each in page["items"]] == offers
    with pytest.raises(InvalidInput):
        world.invitations.received(world.bob, cursor=first["next_cursor"], limit=2)


def test_an_invitation_accepted_twice_at_once_makes_one_member(world: World) -> None:
    invitation_id = invited(world)
    accept = partial(world.invitations.accept, world.bob, invitation_id)
    assert sorted(at_once(accept, accept)) == ["NotFound", "done"]
    assert rows_in(world.db, ProjectMember) == 2
    assert rows_in(world.db, ProjectInvitation) == 0


def test_an_acceptance_and_a_withdrawal_at_once_are_one_after_the_other(world: World) -> None:
    invitation_id = invited(world)
    accepted, withdrawn = at_once(
        partial(world.invitations.accept, world.bob, invitation_id),
        partial(world.invitations.withdraw, world.ann, world.home, invitation_id),
    )
    assert sorted((accepted, withdrawn)) == ["NotFound", "done"]
    assert rows_in(world.db, ProjectMember) == (2 if accepted == "done" else 1)


def test_a_project_takes_its_invitations_along(world: World) -> None:
    invited(world)
    world.projects.delete(world.ann, world.home, version=1)
    assert rows_in(world.db, ProjectInvitation) == rows_in(world.db, ProjectMember) == 0
