"""The main flow, on both databases: what a web client does all day."""

from __future__ import annotations

from typing import Any

import pytest
from flask_openapi import OpenAPI

from tests.api.conftest import MakeApp
from tests.api.people import Person, json_of

PAST, FUTURE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


@pytest.fixture
def someone(any_app: OpenAPI) -> Person:
    return Person(any_app, "ann")


def _titles(person: Person, path: str) -> list[str]:
    answer = person.get(path)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in json_of(answer)["items"]]


def _pages(person: Person, path: str) -> list[list[dict[str, Any]]]:
    """Every page of a list, by its cursors."""
    pages, cursor = [], ""
    while True:
        page = json_of(person.get(f"{path}{cursor}"))
        pages.append(page["items"])
        if page["next_cursor"] is None:
            return pages
        cursor = f"&cursor={page['next_cursor']}"


def test_a_task_lives_from_creation_to_deletion(someone: Person) -> None:
    project = someone.project()
    path = f"/tasks/{someone.task(project, due_at=FUTURE, labels=['b', 'a'])['id']}"
    task = json_of(someone.get(path))
    assert (task["status"], task["priority"], task["labels"]) == ("pending", "medium", ["a", "b"])
    done = json_of(someone.patch(path, {"status": "completed"}, version=1))
    assert done["completed_at"] is not None
    again = json_of(someone.patch(path, {"status": "pending", "labels": ["c"]}, version=2))
    assert (again["completed_at"], again["labels"], again["version"]) == (None, ["c"], 3)
    assert someone.delete(path, version=3).status_code == 204
    assert someone.get(path).status_code == 404
    assert _titles(someone, f"/projects/{project['id']}/tasks") == []


def test_a_list_shows_a_write_at_once(someone: Person) -> None:
    """The list is cached; a write that was answered must be in the next reading."""
    path = f"/projects/{(project := someone.project())['id']}/tasks"
    for number in range(5):
        task = someone.task(project, str(number))
        assert _titles(someone, path) == [str(each) for each in range(number + 1)]
    someone.patch(f"/tasks/{task['id']}", {"title": "last"}, version=1)
    assert _titles(someone, path)[-1] == "last"
    someone.delete(f"/tasks/{task['id']}", version=2)
    assert len(_titles(someone, path)) == 4


def test_pages_hold_every_task_once_in_both_orders(someone: Person) -> None:
    project = someone.project()
    made = [someone.task(project, str(number))["id"] for number in range(7)]
    for order, expected in (("created", made), ("-created", made[::-1])):
        pages = _pages(someone, f"/projects/{project['id']}/tasks?limit=3&order={order}")
        assert [len(page) for page in pages] == [3, 3, 1]
        assert [task["id"] for page in pages for task in page] == expected


def test_a_cursor_of_one_order_is_refused_in_the_other(someone: Person) -> None:
    project = someone.project()
    for number in range(2):
        someone.task(project, str(number))
    path = f"/projects/{project['id']}/tasks?limit=1"
    cursor = json_of(someone.get(path))["next_cursor"]
    assert someone.get(f"{path}&cursor={cursor}").status_code == 200
    assert someone.get(f"{path}&cursor={cursor}&order=-created").status_code == 422


def test_projects_come_in_pages_too(someone: Person) -> None:
    made = [someone.project(str(number))["id"] for number in range(5)]
    pages = _pages(someone, "/projects?limit=2")
    assert [[project["id"] for project in page] for page in pages] == [
        made[:2],
        made[2:4],
        made[4:],
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["late", "late but done", "soon", "some day"]),
        ("?status=completed", ["late but done"]),
        ("?priority=urgent", ["soon"]),
        ("?overdue=true", ["late"]),
        ("?overdue=false", ["late but done", "soon", "some day"]),
        ("?due_before=2020-01-01T00:00:01Z", ["late", "late but done"]),
        ("?due_before=2020-01-01T00:00:00Z", []),
        ("?due_after=2099-01-01T00:00:00Z", ["soon"]),
        ("?due_after=2099-01-01T00:00:00%2B01:00&priority=urgent", ["soon"]),
        ("?status=pending&priority=medium", ["late", "some day"]),
    ],
)
def test_filters_hold_together(someone: Person, query: str, expected: list[str]) -> None:
    project = someone.project()
    someone.task(project, "late", due_at=PAST)
    someone.task(project, "late but done", due_at=PAST, status="completed")
    someone.task(project, "soon", due_at=FUTURE, priority="urgent")
    someone.task(project, "some day")
    assert _titles(someone, f"/projects/{project['id']}/tasks{query}") == expected


def test_figures_follow_the_tasks(someone: Person) -> None:
    project = someone.project()
    path = f"/projects/{project['id']}/stats"
    assert json_of(someone.get(path))["total"] == 0
    someone.task(project, due_at=PAST, priority="high")
    someone.task(project, due_at=PAST, status="cancelled")
    figures = json_of(someone.get(path))
    assert (figures["total"], figures["open"], figures["overdue"]) == (2, 1, 1)
    assert figures["by_status"] == {
        "pending": 1, "in_progress": 0, "completed": 0, "cancelled": 1,
    }  # fmt: skip
    assert figures["by_priority"] == {"low": 0, "medium": 1, "high": 1, "urgent": 0}


def test_deleting_a_project_deletes_its_tasks(someone: Person) -> None:
    project = someone.project()
    task = someone.task(project)
    assert someone.delete(f"/projects/{project['id']}", version=1).status_code == 204
    for path in (f"/projects/{project['id']}", f"/tasks/{task['id']}"):
        assert someone.get(path).status_code == 404
    assert someone.get(f"/projects/{project['id']}/tasks").status_code == 404
    assert json_of(someone.get("/projects")) == {"items": [], "next_cursor": None}


def test_a_task_may_be_given_to_members_only(any_app: OpenAPI, someone: Person) -> None:
    bob = Person(any_app, "bob")
    project = someone.project()
    assert someone.task(project, assignee_id=someone.id)["assignee_id"] == someone.id
    body = {"title": "x", "assignee_id": bob.id}
    assert someone.post(f"/projects/{project['id']}/tasks", body).status_code == 422
    bob.joins(project, "viewer")
    assert someone.task(project, assignee_id=bob.id)["assignee_id"] == bob.id


def test_a_task_is_completed_and_reopened_by_actions_which_its_history_tells(
    someone: Person,
) -> None:
    task = someone.task(someone.project(), due_at=FUTURE)
    path = f"/tasks/{task['id']}"
    done = someone.post(f"{path}/complete")
    assert (done.status_code, done.headers["ETag"]) == (200, '"v2"')
    assert json_of(done)["completed_at"] is not None
    assert json_of(someone.get(path)) == json_of(done)
    assert json_of(someone.post(f"{path}/reopen"))["completed_at"] is None
    newest = json_of(someone.get(f"{path}/history?limit=1"))
    assert [each["action"] for each in newest["items"]] == ["reopened"]
    rest = json_of(someone.get(f"{path}/history?cursor={newest['next_cursor']}"))
    assert [(each["action"], each["account_id"]) for each in rest["items"]] == [
        ("completed", someone.id),
        ("created", someone.id),
    ]
    assert rest["items"][0]["changes"] == [
        {"field": "status", "from": "pending", "to": "completed"}
    ]


def test_without_redis_in_memory_everything_works_too(make_app: MakeApp, ready_url: str) -> None:
    ann = Person(make_app(DATABASE_URL=ready_url), "ann")
    test_a_task_lives_from_creation_to_deletion(ann)
    test_a_list_shows_a_write_at_once(ann)
