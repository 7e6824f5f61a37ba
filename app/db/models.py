"""The tables. `migrations/` creates them; a test keeps the two alike."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.base import Base as Base
from app.db.base import one_of
from app.db.enums import STANDARD_PLAN, Action, MemberRole, Outcome, Priority, Role, TaskStatus
from app.db.token_models import AccessToken as AccessToken
from app.db.token_models import AccountSession as AccountSession
from app.db.token_models import MailedToken as MailedToken
from app.db.token_models import RefreshToken as RefreshToken
from app.db.types import new_id

_UNMARKED = text("status IN ('pending', 'in_progress') AND overdue_at IS NULL")
_PENDING = text("done_at IS NULL")
_OWNED = text("role = 'owner'")
_FINAL = text("outcome IN ('succeeded', 'failed', 'abandoned', 'missed')")


class Account(Base):
    """Someone who may log in. `email` is lower case."""

    __tablename__ = "accounts"
    __table_args__ = (one_of("role", Role),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16), default=Role.USER)
    plan: Mapped[str] = mapped_column(
        String(32), default=STANDARD_PLAN, server_default=STANDARD_PLAN
    )
    email_verified_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class LimitRule(Base):
    """What a plan or a role may use of a budget, in place of what the settings say.

    `subject` is `plan:<name>` or `role:<name>`; `limits` is text such as `600/minute;20000/hour`.
    """

    __tablename__ = "limit_rules"

    subject: Mapped[str] = mapped_column(String(40), primary_key=True)
    budget: Mapped[str] = mapped_column(String(16), primary_key=True)
    limits: Mapped[str] = mapped_column(String(500))
    updated_at: Mapped[datetime]


class Project(Base):
    """What tasks belong to. Who may see it is its members' rows, the owner's too among them."""

    __tablename__ = "projects"
    __table_args__ = (Index(None, "owner_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text, default="")
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    archived_at: Mapped[datetime | None]


class ProjectMember(Base):
    """An account that may see a project. One of a project's is the owner, `Project.owner_id`."""

    __tablename__ = "project_members"
    __table_args__ = (
        one_of("role", MemberRole),
        Index(None, "account_id", "project_id"),
        Index(
            "uq_project_members_owner",
            "project_id",
            unique=True,
            postgresql_where=_OWNED,
            sqlite_where=_OWNED,
        ),
    )

    project_id: Mapped[UUID] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class ProjectInvitation(Base):
    """An offer to whoever has the account of `email` (lower case), if anybody has."""

    __tablename__ = "project_invitations"
    __table_args__ = (
        one_of("role", MemberRole),
        UniqueConstraint("project_id", "email"),
        Index(None, "email", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class Task(Base):
    """A piece of work. `overdue_at` is when the sweep marked it, and None otherwise.

    The identifier rises with creation, so `(project_id, id)` serves lists in that order. The
    partial index holds only what the sweep has still to mark.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        one_of("status", TaskStatus),
        one_of("priority", Priority),
        Index(None, "project_id", "id"),
        Index("ix_tasks_unmarked", "due_at", postgresql_where=_UNMARKED, sqlite_where=_UNMARKED),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(500))
    description: Mapped[str] = mapped_column(Text, default="")
    status: Mapped[str] = mapped_column(String(16), default=TaskStatus.PENDING)
    priority: Mapped[str] = mapped_column(String(16), default=Priority.MEDIUM)
    due_at: Mapped[datetime | None]
    assignee_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]
    overdue_at: Mapped[datetime | None]

    labels: Mapped[list[TaskLabel]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="TaskLabel.name"
    )


class TaskLabel(Base):
    """One word on one task."""

    __tablename__ = "task_labels"

    task_id: Mapped[UUID] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(50), primary_key=True, index=True)


class TaskHistory(Base):
    """Who made a version of a task, and what it changed: `[{"field", "from", "to"}]`.

    The sweep's versions have no row. `account_id` is None once the account is gone.
    """

    __tablename__ = "task_history"
    __table_args__ = (one_of("action", Action),)

    task_id: Mapped[UUID] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    action: Mapped[str] = mapped_column(String(16))
    changes: Mapped[list[dict[str, Any]]]
    created_at: Mapped[datetime]


class Outbox(Base):
    """An event, written with the change that it tells of. `done_at` is None until handed on."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_pending", "created_at", postgresql_where=_PENDING, sqlite_where=_PENDING),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[UUID]
    project_id: Mapped[UUID | None]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]


class Invalidation(Base):
    """What a change made stale, written with the change. Kept for as long as an entry may live.

    `told` is the history of writes (a replication id) that was last told of it; None until one was.
    `told_before` is those that have it too, up to three, joined by spaces.
    `created_ms` is the database's clock.
    """

    __tablename__ = "invalidations"
    __table_args__ = (Index(None, "told"), Index(None, "created_ms"))

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    namespaces: Mapped[list[str]]
    tags: Mapped[list[str]]
    told: Mapped[str | None] = mapped_column(String(64))
    told_before: Mapped[str | None] = mapped_column(String(128))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class IdempotencyKey(Base):
    """A POST that was done once and for all, and its answer, in the same transaction.

    `status` is None only while that transaction runs. `stale` is what it made so: pairs of
    namespaces and tags. `created_ms` is the database's clock.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("account_id", "method", "path", "key"),
        Index(None, "created_ms"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    location: Mapped[str | None] = mapped_column(String(500))
    etag: Mapped[str | None] = mapped_column(String(100))
    stale: Mapped[list[Any] | None]
    created_ms: Mapped[int] = mapped_column(BigInteger)


class CronJob(Base):
    """Who may run a job: one row for each. Times are the database's clock in ms since the epoch."""

    __tablename__ = "cron_jobs"

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    holder: Mapped[str] = mapped_column(String(200), default="")
    slot: Mapped[int] = mapped_column(BigInteger, default=0)
    lease_until: Mapped[int] = mapped_column(BigInteger, default=0)
    paused: Mapped[bool] = mapped_column(default=False)


class CronRun(Base):
    """The ledger: one row for each attempt at a slot (epoch seconds) of a job.

    `total` is how many rows there were to do when the attempt began, where the job can tell. The
    fence is unique within the job; a slot that was passed over has attempt 0 and fence 0.
    """

    __tablename__ = "cron_runs"
    __table_args__ = (
        one_of("outcome", Outcome),
        Index(
            "uq_cron_runs_final",
            "job",
            "slot",
            unique=True,
            postgresql_where=_FINAL,
            sqlite_where=_FINAL,
        ),
    )

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    slot: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fence: Mapped[int] = mapped_column(BigInteger)
    instance: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    rows: Mapped[int] = mapped_column(BigInteger, default=0)
    total: Mapped[int | None] = mapped_column(BigInteger)
