"""The document is what clients are generated from: complete, valid and stable."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from flask_openapi.utils import parse_rule

from app.api.authentication import PUBLIC, RETURNS_SECRET
from app.api.openapi import operations
from app.api.schemas.base import Body, PageQuery, Parameters, Query
from app.api.schemas.tasks import TaskFilters
from tests.api.operations import calls, owned
from tests.api.people import Person, json_of

# Released names: clients call them. Add new ones; change none.
OPERATIONS = {
    "register": "POST /api/v1/accounts",
    "me": "GET /api/v1/accounts/me",
    "change_password": "PUT /api/v1/accounts/me/password",
    "export_account": "GET /api/v1/accounts/me/export",
    "delete_account": "POST /api/v1/accounts/me/deletion",
    "request_password_reset": "POST /api/v1/accounts/password-reset",
    "reset_password": "PUT /api/v1/accounts/password-reset",
    "request_verification": "POST /api/v1/accounts/me/verification",
    "verify_address": "PUT /api/v1/accounts/verification",
    "log_in": "POST /api/v1/sessions",
    "log_out": "DELETE /api/v1/sessions/current",
    "refresh_session": "POST /api/v1/sessions/refresh",
    "create_access_token": "POST /api/v1/access-tokens",
    "list_access_tokens": "GET /api/v1/access-tokens",
    "revoke_access_token": "DELETE /api/v1/access-tokens/{token_id}",
    "list_sessions": "GET /api/v1/sessions",
    "revoke_session": "DELETE /api/v1/sessions/{session_id}",
    "list_accounts": "GET /api/v1/admin/accounts",
    "get_account": "GET /api/v1/admin/accounts/{account_id}",
    "disable_account": "POST /api/v1/admin/accounts/{account_id}/disable",
    "enable_account": "POST /api/v1/admin/accounts/{account_id}/enable",
    "set_role": "PUT /api/v1/admin/accounts/{account_id}/role",
    "create_project": "POST /api/v1/projects",
    "list_projects": "GET /api/v1/projects",
    "get_project": "GET /api/v1/projects/{project_id}",
    "patch_project": "PATCH /api/v1/projects/{project_id}",
    "delete_project": "DELETE /api/v1/projects/{project_id}",
    "archive_project": "POST /api/v1/projects/{project_id}/archive",
    "unarchive_project": "POST /api/v1/projects/{project_id}/unarchive",
    "transfer_project": "POST /api/v1/projects/{project_id}/transfer",
    "list_members": "GET /api/v1/projects/{project_id}/members",
    "change_role": "PATCH /api/v1/projects/{project_id}/members/{member_id}",
    "remove_member": "DELETE /api/v1/projects/{project_id}/members/{member_id}",
    "invite": "POST /api/v1/projects/{project_id}/invitations",
    "list_sent_invitations": "GET /api/v1/projects/{project_id}/invitations",
    "withdraw_invitation": "DELETE /api/v1/projects/{project_id}/invitations/{sent_invitation_id}",
    "list_invitations": "GET /api/v1/invitations",
    "accept_invitation": "POST /api/v1/invitations/{invitation_id}/accept",
    "decline_invitation": "DELETE /api/v1/invitations/{invitation_id}",
    "create_task": "POST /api/v1/projects/{project_id}/tasks",
    "list_tasks": "GET /api/v1/projects/{project_id}/tasks",
    "get_task": "GET /api/v1/tasks/{task_id}",
    "patch_task": "PATCH /api/v1/tasks/{task_id}",
    "delete_task": "DELETE /api/v1/tasks/{task_id}",
    "complete_task": "POST /api/v1/tasks/{task_id}/complete",
    "reopen_task": "POST /api/v1/tasks/{task_id}/reopen",
    "task_history": "GET /api/v1/tasks/{task_id}/history",
    "project_stats": "GET /api/v1/projects/{project_id}/stats",
    "live": "GET /health/live",
    "ready": "GET /health/ready",
    "health": "GET /health",
}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.content_type == "application/json"
    found: dict[str, Any] = json_of(answer)
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_it_is_openapi_3_1_0(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "TaskFlow"
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["info"]["version"])


def test_operation_ids_are_the_released_ones(document: dict[str, Any]) -> None:
    found = [(o["operationId"], f"{method} {path}") for path, method, o in operations(document)]
    assert len(found) == len(dict(found))
    assert dict(found) == OPERATIONS


def test_every_route_below_api_is_in_it(app: OpenAPI, document: dict[str, Any]) -> None:
    documented = {(path, method) for path, method, _ in operations(document)}
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/"):
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                assert (parse_rule(rule.rule), method) in documented


def test_every_reference_in_it_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(_references(document))
    assert len(references) > 20
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_bearer_scheme_is_asked_for_by_all_but_the_public_ones(
    document: dict[str, Any],
) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    open_ones = {o["operationId"] for *_, o in operations(document) if o.get("security") == []}
    assert open_ones == {
        "register",
        "log_in",
        "refresh_session",
        "request_password_reset",
        "reset_password",
        "verify_address",
        "live",
        "ready",
        "health",
    }
    assert open_ones <= {endpoint.partition(".")[2] for endpoint in PUBLIC}


def test_every_operation_names_the_problems_of_its_shape(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if not path.startswith("/api/"):
            continue
        codes = set(operation["responses"])
        assert {"429", "500", "503"} <= codes
        assert ("404" in codes) == ("{" in path)
        assert ("401" in codes) or operation["security"] == []
        assert ({"400", "413", "415", "422"} <= codes) == ("requestBody" in operation)
        versioned = any(p["name"] == "If-Match" for p in operation.get("parameters", ()))
        assert ({"412", "428"} <= codes) == versioned


def test_every_problem_in_it_has_the_one_shape(document: dict[str, Any]) -> None:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    shared = document["components"]["responses"]
    assert len(shared) == 13
    for each in shared.values():
        (media_type,) = each["content"]
        schema = each["content"][media_type]["schema"]
        assert {media_type: {"schema": schema}} == content
    for *_, operation in operations(document):
        for code, answer in operation["responses"].items():
            if code >= "400" and "$ref" not in answer and "health" not in operation["tags"]:
                assert answer["content"] == content


def test_every_answer_has_a_schema_and_every_body_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, _, operation in operations(document):
        good = [code for code in operation["responses"] if code < "300"]
        assert len(good) == 1
        if path.startswith("/api/") and good != ["204"]:
            schema = operation["responses"][good[0]]["content"]["application/json"]["schema"]
            assert schema["$ref"]
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            assert schemas[body.rpartition("/")[2]]["examples"]


def test_bodies_in_it_take_no_unknown_fields(document: dict[str, Any]) -> None:
    for *_, operation in operations(document):
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            schema = document["components"]["schemas"][body.rpartition("/")[2]]
            assert schema["additionalProperties"] is False


def test_what_has_a_version_shows_its_etag_and_what_is_new_its_location(
    document: dict[str, Any],
) -> None:
    paths = document["paths"]
    assert set(paths["/api/v1/projects"]["post"]["responses"]["201"]["headers"]) == {
        "ETag",
        "Location",
    }
    get = paths["/api/v1/tasks/{task_id}"]["get"]["responses"]
    assert set(get["200"]["headers"]) == {"ETag"}
    assert "304" in get


def test_every_answer_with_a_tag_says_so_and_may_be_asked_for_on_a_condition(
    client: FlaskClient, document: dict[str, Any], ann: Person
) -> None:
    ids = owned(ann.as_admin())
    told = {o["operationId"]: o for *_, o in operations(document)}
    tagged = 0
    for call in calls(client):
        if call.method == "GET":
            operation = told[call.id]
            answer = ann.get(call.at(ids))
            assert answer.status_code == 200
            has_tag = "ETag" in answer.headers
            assert ("ETag" in operation["responses"]["200"].get("headers", {})) == has_tag, call.id
            assert ("304" in operation["responses"]) == has_tag, call.id
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert ("If-None-Match" in names) == has_tag, call.id
            tagged += has_tag
    assert tagged >= 4


def test_every_shared_problem_has_an_example_and_says_when_to_come_again(
    document: dict[str, Any],
) -> None:
    for code, shared in document["components"]["responses"].items():
        example = shared["content"]["application/problem+json"]["example"]
        assert example["status"] == int(code)
        assert example["type"].startswith("/problems/")
        assert ("Retry-After" in shared.get("headers", {})) == (code in ("429", "503"))


def test_whatever_answers_with_a_secret_is_known_and_takes_no_key(
    app: OpenAPI, document: dict[str, Any]
) -> None:
    """By its fields' names: the answer to such a POST must never be kept."""
    secret = re.compile(r"(?:^|_)(?:token|secret|password|key)$")
    endpoints = {endpoint.rpartition(".")[2]: endpoint for endpoint in app.view_functions}
    found = set()
    for _, method, operation in operations(document):
        answer = operation["responses"].get("201") or operation["responses"].get("200") or {}
        told = set(_fields(document, answer))
        if method == "POST" and any(map(secret.search, told)):
            assert "Idempotency-Key" not in [p["name"] for p in operation.get("parameters", ())]
            found.add(endpoints[operation["operationId"]])
    assert found == RETURNS_SECRET


def _fields(document: dict[str, Any], node: Any) -> Iterator[str]:
    """The names of all fields of an answer, those of objects within it too."""
    for reference in _references(node):
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        yield from schema.get("properties", {})
        yield from _fields(document, schema)


def test_every_handlers_models_are_strict_and_make_their_schema_once(app: OpenAPI) -> None:
    """Without the base class, the library makes a query's JSON schema at every request."""
    bases = {"query": Query, "header": Parameters, "body": Body}
    found = 0
    for view in app.view_functions.values():
        for part in bases.keys() & inspect.unwrap(view).__annotations__:
            assert issubclass(get_type_hints(inspect.unwrap(view))[part], bases[part])
            found += 1
    assert found >= 12
    assert TaskFilters.model_json_schema() is TaskFilters.model_json_schema()
    assert TaskFilters.model_json_schema() is not PageQuery.model_json_schema()
