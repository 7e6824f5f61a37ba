"""Query parameters that contradict each other are refused, whatever route reads them."""

from __future__ import annotations

import pytest

from app.api.requests import Arguments
from tests.api.people import Person, json_of


@pytest.fixture
def tasks(ann: Person) -> str:
    return f"/projects/{ann.project()['id']}/tasks"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=50&limit=51", "limit"),
        ("status=pending&status=completed", "status"),
        ("status=pending&limit=5&status=pending", "status"),
        ("cursor=&cursor=", "cursor"),
    ],
)
def test_a_parameter_given_more_than_once_is_refused_by_name(
    ann: Person, tasks: str, query: str, field: str
) -> None:
    refused = ann.get(f"{tasks}?{query}")
    assert refused.status_code == 422
    assert json_of(refused)["errors"] == [{"field": field, "message": "Given more than once"}]


def test_another_routes_parameters_are_no_exception(ann: Person) -> None:
    assert ann.get("/projects?limit=5").status_code == 200
    assert ann.get("/projects?limit=5&limit=5").status_code == 422


def test_each_given_once_is_taken(ann: Person, tasks: str) -> None:
    assert ann.get(f"{tasks}?status=pending&limit=50&order=created").status_code == 200


def test_where_a_list_is_taken_all_are_told() -> None:
    assert Arguments([("label", "a"), ("label", "b")]).getlist("label") == ["a", "b"]
