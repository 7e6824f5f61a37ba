"""Members: one owner, tasks for members alone, and changes that come one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from app.db.enums import MemberRole
from app.db.models import Project, ProjectMember, Task, TaskHistory
from app.errors import Conflict, Forbidden, InvalidInput, NotFound, TaskFlowError
from app.services import tasks
from app.services.actor import Actor
from app.services.members import member_of
from app.services.ports import EVERY_TASK, LISTS, member_tag
from app.services.task_rules import NewTask
from tests.services.conftest import World
from tests.support.database import (
    add_account,
    add_member,
    add_tasks,
    column,
    rows_in,
    wait_for_a_blocked_backend,
)


def joined(world: World, name: str, role: MemberRole = MemberRole.EDITOR) -> Actor:
    member = add_account(world.db, name)
    add_member(world.db, world.home, member, role)
    return member


def test_the_members_come_in_pages_of_everyone_once(world: World) -> None:
    everyone = [world.ann, *(joined(world, f"m{n}", MemberRole.VIEWER) for n in range(6))]
    first = world.members.list(everyone[1], world.home, cursor=None, limit=3)
    for gone in (everyone[2], everyone[5]):  # whom the cursor names, and one still to come
        world.members.remove(gone, world.home, gone.account_id)
    rest = world.members.list(everyone[1], world.home, cursor=first["next_cursor"], limit=3)
    seen = [member["account_id"] for page in (first, rest) for member in page["items"]]
    assert seen == [str(each.account_id) for each in everyone if each is not everyone[5]]
    assert rest["next_cursor"] is None
    with pytest.raises(InvalidInput):
        world.members.list(world.ann, world.home, cursor="x", limit=3)


def test_projects_come_in_pages_while_memberships_come_and_go(world: World) -> None:
    shared = [UUID(world.projects.create(world.bob, name=f"P{n}")["id"]) for n in range(5)]
    for project_id in shared:
        add_member(world.db, project_id, world.ann, MemberRole.VIEWER)
    first = world.projects.list(world.ann, cursor=None, limit=3)
    for left in (shared[1], shared[3]):
        world.members.remove(world.ann, left, world.ann.account_id)
    late = world.projects.create(world.ann, name="Late")["id"]
    rest = world.projects.list(world.ann, cursor=first["next_cursor"], limit=3)
    seen = [project["id"] for page in (first, rest) for project in page["items"]]
    expected = [world.home, shared[0], shared[1], shared[2], shared[4]]
    assert seen == [*map(str, expected), late]
    assert rest["next_cursor"] is None


def test_a_transfer_leaves_one_owner_in_both_places(world: World) -> None:
    bea = joined(world, "bea")
    view = world.members.transfer(world.ann, world.home, bea.account_id)
    assert (view["owner_id"], view["role"], view["version"]) == (
        *(str(bea.account_id), "editor"),
        2,
    )
    assert column(world.db, Project.owner_id) == [bea.account_id]
    assert sorted(column(world.db, ProjectMember.role)) == ["editor", "owner"]
    again = world.members.transfer(bea, world.home, bea.account_id)
    assert (again["role"], again["version"]) == ("owner", 2)


def test_a_transfer_to_a_stranger_changes_nothing(world: World) -> None:
    for stranger in (world.bob.account_id, uuid4()):
        with pytest.raises(InvalidInput) as refused:
            world.members.transfer(world.ann, world.home, stranger)
        assert [error.field for error in refused.value.errors] == ["member_id"]
    assert column(world.db, ProjectMember.role) == ["owner"]
    assert world.projects.get(world.ann, world.home)["version"] == 1


def test_a_removed_members_tasks_are_nobodys_and_say_so(world: World) -> None:
    bea = joined(world, "bea")
    theirs = add_tasks(world.db, world.home, 3, assignee_id=bea.account_id)
    others = add_tasks(world.db, world.home, 2, assignee_id=world.ann.account_id)
    elsewhere = UUID(world.projects.create(bea, name="Hers")["id"])
    add_tasks(world.db, elsewhere, 1, assignee_id=bea.account_id)
    world.cache.invalidated.clear()
    world.members.remove(world.ann, world.home, bea.account_id)
    for task_id in theirs:
        task = world.tasks.get(world.ann, task_id).value
        assert (task["assignee_id"], task["version"]) == (None, 2)
        [change] = world.history.list(world.ann, task_id, cursor=None, limit=9)["items"]
        assert (change["action"], change["version"]) == ("unassigned", 2)
        assert change["account_id"] == str(world.ann.account_id)
        lost = {"field": "assignee_id", "from": str(bea.account_id), "to": None}
        assert change["changes"] == [lost]
    assert world.tasks.get(world.ann, others[0]).value["version"] == 1
    assert column(world.db, Task.assignee_id).count(bea.account_id) == 1
    tags = (LISTS, EVERY_TASK, member_tag(bea.account_id))
    assert world.cache.invalidated == [(f"project:{world.home}", tags)]


def test_who_leaves_without_tasks_makes_nothing_stale_for_the_others(world: World) -> None:
    bea = joined(world, "bea")
    world.members.remove(bea, world.home, bea.account_id)
    tags = (member_tag(bea.account_id),)
    assert world.cache.invalidated == [(f"project:{world.home}", tags)]
    assert rows_in(world.db, TaskHistory) == 0


def test_a_task_is_given_to_members_alone(world: World) -> None:
    bea = joined(world, "bea", MemberRole.VIEWER)
    made = world.tasks.create(world.ann, world.home, NewTask(title="x", assignee_id=bea.account_id))
    task_id = UUID(made["id"])
    for stranger in (world.bob.account_id, uuid4()):
        with pytest.raises(InvalidInput) as refused:
            world.tasks.patch(world.ann, task_id, version=1, changes={"assignee_id": stranger})
        assert [error.field for error in refused.value.errors] == ["assignee_id"]
    with pytest.raises(NotFound):  # and a stranger learns nothing of who is a member
        world.tasks.patch(
            world.bob, task_id, version=1, changes={"assignee_id": world.bob.account_id}
        )
    assert world.tasks.get(bea, task_id).value["assignee_id"] == str(bea.account_id)


def test_a_change_of_members_needs_the_owner(world: World) -> None:
    bea, cleo = joined(world, "bea"), joined(world, "cleo", MemberRole.VIEWER)
    for act in _changes(world, bea, cleo):
        with pytest.raises(Forbidden):
            act()
    for act in _changes(world, world.bob, cleo):
        with pytest.raises(NotFound, match="project"):
            act()
    assert sorted(column(world.db, ProjectMember.role)) == ["editor", "owner", "viewer"]
    with pytest.raises(Conflict):
        world.members.remove(world.ann, world.home, world.ann.account_id)


def _changes(world: World, who: Actor, whom: Actor) -> list[Callable[[], object]]:
    home, other = world.home, whom.account_id
    return [
        lambda: world.members.change_role(who, home, other, role="editor"),
        lambda: world.members.remove(who, home, other),
        lambda: world.members.transfer(who, home, other),
        lambda: world.invitations.invite(who, home, email="x@example.com", role="viewer"),
        lambda: world.invitations.sent(who, home, cursor=None, limit=9),
        lambda: world.invitations.withdraw(who, home, uuid4()),
    ]


# --- two at once ----------------------------------------------------------------------------------


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except TaskFlowError as error:
        return type(error).__name__
    return "done"


def given_while_removed(world: World, *, waits: bool) -> tuple[str, list[UUID | None]]:
    """What comes of giving a task to a member whose removal is not committed yet."""
    bea = joined(world, "bea")
    [task_id] = add_tasks(world.db, world.home, 1)
    to_bea = {"assignee_id": bea.account_id}
    give = partial(world.tasks.patch, world.ann, task_id, version=1, changes=to_bea)
    outcomes: list[str] = []
    giving = threading.Thread(target=lambda: outcomes.append(outcome(give)))
    with world.db.write() as session:
        session.delete(session.get_one(ProjectMember, (world.home, bea.account_id)))
        session.flush()
        giving.start()
        if waits:
            wait_for_a_blocked_backend(world.db)
        else:
            giving.join(30)
    giving.join(30)
    return outcomes[0], column(world.db, Task.assignee_id)


def test_a_task_is_not_given_to_who_is_being_removed(postgres_world: World) -> None:
    assert given_while_removed(postgres_world, waits=True) == ("InvalidInput", [None])


def test_if_the_member_were_not_kept_the_task_would_be_a_strangers(
    postgres_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(tasks, "kept_member", _looked_up)
    done, [assignee_id] = given_while_removed(postgres_world, waits=False)
    assert done == "done"
    assert assignee_id is not None


def _looked_up(project_id: Any, account_id: UUID) -> Any:
    """As `kept_member`, without keeping anybody."""
    return select(ProjectMember.account_id).where(member_of(project_id, account_id))


def test_a_task_that_is_just_given_to_who_is_removed_is_taken_back(postgres_world: World) -> None:
    """Many times both at once: whoever comes first, no task is left to who is no member."""
    world = postgres_world
    for number in range(10):
        bea = joined(world, f"bea{number}")
        [task_id] = add_tasks(world.db, world.home, 1)
        to_bea = {"assignee_id": bea.account_id}
        outcomes = at_once(
            partial(world.tasks.patch, world.ann, task_id, version=1, changes=to_bea),
            partial(world.members.remove, world.ann, world.home, bea.account_id),
        )
        assert outcomes[1] == "done"
        assert outcomes[0] in ("done", "InvalidInput", "PreconditionFailed")
    assert set(column(world.db, Task.assignee_id)) == {None}


def test_of_two_transfers_at_once_one_is_done_and_there_is_one_owner(
    postgres_world: World,
) -> None:
    world = postgres_world
    heirs = [joined(world, "bea"), joined(world, "cleo")]
    acts = [partial(world.members.transfer, world.ann, world.home, h.account_id) for h in heirs]
    outcomes: list[str] = []
    both = threading.Thread(target=lambda: outcomes.extend(at_once(*acts)))
    with world.db.write() as session:
        session.scalar(select(Project).where(Project.id == world.home).with_for_update())
        both.start()
        wait_for_a_blocked_backend(world.db, count=2)
    both.join(60)
    assert sorted(outcomes) == ["Forbidden", "done"]
    assert column(world.db, ProjectMember.role).count("owner") == 1
    with world.db.read() as session:
        owner_id = session.get_one(Project, world.home).owner_id
        assert session.get_one(ProjectMember, (world.home, owner_id)).role == "owner"


def at_once(*acts: Callable[[], object]) -> list[str]:
    """What each came to, in their order."""
    start, outcomes = threading.Barrier(len(acts)), [""] * len(acts)

    def run(number: int) -> None:
        start.wait(10)
        outcomes[number] = outcome(acts[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes
