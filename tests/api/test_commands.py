"""`flask users` and `flask demo`, run as `flask` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import Result
from flask_openapi import OpenAPI

from tests.api.people import Person, json_of

PROJECT = re.compile(r"project ([0-9a-f-]{36})")
SECRET = re.compile(r"^Password: (\S{20,})$", re.MULTILINE)


def run(app: OpenAPI, *args: str, stdin: str | None = None) -> Result:
    return app.test_cli_runner().invoke(args=list(args), input=stdin)


def _log_in(app: OpenAPI, email: str, password: str) -> dict[str, str]:
    """The headers of a session."""
    who = {"email": email, "password": password}
    answer = app.test_client().post("/api/v1/sessions", json=who)
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {json_of(answer)['token']}"}


def _role(app: OpenAPI, email: str, password: str) -> str:
    headers = _log_in(app, email, password)
    return str(json_of(app.test_client().get("/api/v1/accounts/me", headers=headers))["role"])


def test_an_admin_is_created_with_a_password_from_standard_input(any_app: OpenAPI) -> None:
    args = ("users", "create", "--email", "Root@example.com", "--admin", "--password-stdin")
    done = run(any_app, *args, stdin="from a file, with spaces\n")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("Created admin root@example.com (")
    assert "spaces" not in done.output
    assert _role(any_app, "root@example.com", "from a file, with spaces") == "admin"


def test_a_generated_password_is_printed_once_and_works(app: OpenAPI) -> None:
    done = run(app, "users", "create", "--email", "eve@example.com", "--generate-password")
    assert done.exit_code == 0, done.output
    found = SECRET.search(done.output)
    assert found
    assert _role(app, "eve@example.com", found[1]) == "user"


def test_without_an_option_the_password_is_asked_for_twice(app: OpenAPI) -> None:
    done = run(app, "users", "create", "--email", "dan@example.com", stdin="asked for\nasked for\n")
    assert done.exit_code == 0, done.output
    assert "asked for" not in done.output
    assert _role(app, "dan@example.com", "asked for") == "user"


def test_a_user_that_cannot_be_is_one_line_and_no_traceback(app: OpenAPI, ann: Person) -> None:
    args = ("users", "create", "--password-stdin", "--email")
    taken = run(app, *args, ann.email, stdin="long enough\n")
    assert taken.exit_code == 1
    assert taken.output == "Error: An account with this e-mail address exists.\n"
    short = run(app, *args, "new@example.com", stdin="short\n")
    assert short.exit_code == 1
    assert "  password: " in short.output
    assert "Traceback" not in short.output


def test_the_demo_imports_a_thousand_tasks_of_which_two_hundred_are_overdue(
    any_app: OpenAPI,
) -> None:
    done = run(any_app, "demo")
    assert done.exit_code == 0, done.output
    assert "\nImported 1000 tasks into project " in done.output
    project, secret = PROJECT.search(done.output), SECRET.search(done.output)
    assert project
    assert secret
    headers = _log_in(any_app, "demo@example.com", secret[1])
    stats = any_app.test_client().get(f"/api/v1/projects/{project[1]}/stats", headers=headers)
    assert (json_of(stats)["total"], json_of(stats)["overdue"]) == (1_000, 200)


def test_a_second_demo_keeps_the_account_and_adds_a_project(app: OpenAPI) -> None:
    first, second = run(app, "demo"), run(app, "demo")
    secret = SECRET.search(first.output)
    assert secret
    assert not SECRET.search(second.output)
    headers = _log_in(app, "demo@example.com", secret[1])
    projects = json_of(app.test_client().get("/api/v1/projects", headers=headers))["items"]
    assert len(projects) == 2


def test_a_demo_file_goes_to_the_account_that_is_named(
    app: OpenAPI, ann: Person, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\ufefftitle\r\nOne\r\nTwo\r\n", encoding="utf-8")
    done = run(app, "demo", "--email", ann.email, "--file", str(path))
    assert done.exit_code == 0, done.output
    (project,) = json_of(ann.get("/projects"))["items"]
    assert project["name"] == "Demo: mine.csv"
    tasks = json_of(ann.get(f"/projects/{project['id']}/tasks"))["items"]
    assert [task["title"] for task in tasks] == ["One", "Two"]


@pytest.mark.parametrize("content", [b"title,priority\nA,huge\nB,high\n,low\n", b"title\n\xff\n"])
def test_a_bad_demo_file_is_told_row_by_row_and_leaves_nothing(
    app: OpenAPI, ann: Person, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    done = run(app, "demo", "--email", ann.email, "--file", str(path))
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert json_of(ann.get("/projects"))["items"] == []


def test_every_bad_row_of_a_demo_file_has_its_line(
    app: OpenAPI, ann: Person, tmp_path: Path
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("title,priority\nA,huge\nB,high\n,low\n")
    done = run(app, "demo", "--email", ann.email, "--file", str(path))
    assert [line.split(":")[0] for line in done.output.splitlines()[1:]] == [
        "  line 2, priority",
        "  line 4, title",
    ]
