"""All of an account, out."""

from __future__ import annotations

from app.api.schemas.access_tokens import AccessToken
from app.api.schemas.accounts import Account, LogIn
from app.api.schemas.base import View
from app.api.schemas.projects import Project
from app.api.schemas.tasks import Task


class Export(View):
    """All that is kept of an account."""

    account: Account
    sessions: list[LogIn]
    access_tokens: list[AccessToken]
    projects: list[Project]
    tasks: list[Task]
