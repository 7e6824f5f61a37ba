"""The words that the database stores, and that its CHECK constraints allow."""

from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """Where a task stands. Only an open one can become overdue."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


# In the order of the partial index: SQLite compares the two lists word by word.
OPEN = (TaskStatus.PENDING, TaskStatus.IN_PROGRESS)


class Priority(StrEnum):
    """How much a task matters, least first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


class Role(StrEnum):
    """What an account may do beyond the projects that it is a member of."""

    USER = "user"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a personal access token may do."""

    READ = "read"
    WRITE = "write"


class MailPurpose(StrEnum):
    """What a mailed token is good for."""

    RESET = "reset"
    VERIFY = "verify"


class MemberRole(StrEnum):
    """What a member may do in a project; `app.services.access` says what that is."""

    OWNER = "owner"
    EDITOR = "editor"
    VIEWER = "viewer"


class Action(StrEnum):
    """What somebody did to a task, for its history."""

    CREATED = "created"
    CHANGED = "changed"
    COMPLETED = "completed"
    REOPENED = "reopened"
    UNASSIGNED = "unassigned"


STANDARD_PLAN = "standard"
"""The plan that an account begins with: the settings' limits, unless a rule says otherwise."""


class Outcome(StrEnum):
    """How an attempt at a slot ended. One without is still going, or its scheduler died.

    `STOPPED` and `FENCED_OUT` leave the slot to another attempt: the first gave it back, the second
    was taken up by a newer fence. The others end the slot. `MISSED` is a slot never begun.
    """

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    FENCED_OUT = "fenced_out"
    ABANDONED = "abandoned"
    MISSED = "missed"


# A slot has at most one attempt with one of these; the ledger's unique index keeps to it.
FINAL = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.ABANDONED, Outcome.MISSED)
