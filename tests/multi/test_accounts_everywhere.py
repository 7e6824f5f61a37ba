"""What is decided about an account holds at its next request in every process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

import pytest

from app import bootstrap
from app.config import Settings
from app.db.enums import Role
from app.services import admin
from app.services.actor import Actor
from tests.multi.caller import Caller
from tests.multi.conftest import Env
from tests.support.processes import Gunicorn

ROOT = Actor(UUID(int=0), None, Role.ADMIN)


@pytest.fixture
def everywhere(shared_env: Env, start_gunicorn: Callable[..., Gunicorn]) -> list[Caller]:
    """One account at two instances of one worker each."""
    first, second = (start_gunicorn(shared_env, workers=1) for _ in range(2))
    here = Caller.register(first.base_url)
    return [here, here.at(second.base_url)]


def statuses(callers: Sequence[Caller], path: str) -> set[int]:
    """The first request says what holds at once, the others what is remembered."""
    return {each.get(path).status_code for each in callers for _ in range(3)}


def test_role_disabling_and_revocation_hold_at_the_next_request_in_every_process(
    shared_env: Env, everywhere: list[Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = bootstrap.build(Settings.from_env(shared_env))
    here = everywhere[0]
    account_id = UUID(here.get("/accounts/me").json()["id"])
    assert statuses(everywhere, "/admin/accounts") == {403}  # and every worker remembers the token
    with monkeypatch.context() as untold:  # the control: nobody is told, and who remembers goes on
        untold.setattr(admin, "stale_account", lambda _: None)
        parts.admin.set_role(ROOT, account_id, Role.ADMIN)
        assert statuses(everywhere, "/admin/accounts") == {403}
    for role, status in ((Role.ADMIN, 200), (Role.USER, 403)):
        parts.admin.set_role(ROOT, account_id, role)
        assert statuses(everywhere, "/admin/accounts") == {status}

    parts.admin.disable(ROOT, account_id)
    assert statuses(everywhere, "/accounts/me") == {401}
    parts.admin.enable(ROOT, account_id)
    assert statuses(everywhere, "/accounts/me") == {401}

    here.token = everywhere[1].token = Caller.register(here.base_url[: -len("/api/v1")]).token
    assert statuses(everywhere, "/accounts/me") == {200}
    (session,) = here.get("/sessions").json()["items"]
    actor = Actor(account_id, None, Role.USER)
    parts.sessions.revoke(actor, UUID(session["id"]))
    assert statuses(everywhere, "/accounts/me") == {401}
    parts.close()
