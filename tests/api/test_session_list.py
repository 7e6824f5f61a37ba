"""One's own log-ins: listed, and ended one by one."""

from __future__ import annotations

from flask_openapi import OpenAPI

from tests.api.people import Person, json_of


def test_sessions_are_listed_newest_first_without_tokens_and_the_own_is_marked(
    any_app: OpenAPI,
) -> None:
    ann, bob = Person(any_app, "ann"), Person(any_app, "bob")
    tokens = [ann.token, ann.log_in(), ann.log_in()]
    bob.log_in()
    first = json_of(ann.get("/sessions?limit=2"))
    last = json_of(ann.get(f"/sessions?limit=2&cursor={first['next_cursor']}"))
    found = first["items"] + last["items"]
    assert [each["current"] for each in found] == [False, False, True]
    assert [each["id"] for each in found] == sorted((e["id"] for e in found), reverse=True)
    assert last["next_cursor"] is None
    assert not any(token in str(found) for token in tokens)


def test_an_ended_session_is_refused_at_once_and_listed_no_more(any_app: OpenAPI) -> None:
    ann = Person(any_app, "ann")
    other = ann.log_in()
    newest, own = json_of(ann.get("/sessions"))["items"]
    assert ann.get("/accounts/me", headers={"Authorization": f"Bearer {other}"}).status_code == 200
    assert ann.request("DELETE", f"/sessions/{newest['id']}").status_code == 204
    assert ann.get("/accounts/me", headers={"Authorization": f"Bearer {other}"}).status_code == 401
    assert json_of(ann.get("/sessions"))["items"] == [own]
    assert ann.request("DELETE", f"/sessions/{newest['id']}").status_code == 404
    assert ann.request("DELETE", f"/sessions/{own['id']}").status_code == 204
    assert ann.get("/accounts/me").status_code == 401
