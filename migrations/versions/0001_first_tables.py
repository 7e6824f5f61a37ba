"""The first tables: accounts, sessions, projects, tasks, the outbox and the ledger of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UNMARKED = "status IN ('pending', 'in_progress') AND overdue_at IS NULL"
_PENDING = "done_at IS NULL"


def upgrade() -> None:
    """Create everything, referred-to tables first."""
    _accounts()
    _sessions()
    _projects()
    _tasks()
    _task_labels()
    _outbox()
    _cron_jobs()
    _cron_runs()


def downgrade() -> None:
    """Drop everything, indexes with their tables."""
    for table in ("cron_runs", "cron_jobs", "outbox", "task_labels", "tasks"):
        op.drop_table(table)
    for table in ("projects", "sessions", "accounts"):
        op.drop_table(table)


def _id(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid(), nullable=nullable)


def _text(name: str, most: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(most), nullable=nullable)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False)


def _int(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _primary(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _refers(table: str, column: str, to: str, *, ondelete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{to}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, ondelete=ondelete)


def _check(table: str, column: str, *words: str) -> sa.CheckConstraint:
    allowed = ", ".join(f"'{word}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({allowed})", name=op.f(f"ck_{table}_{column}"))


def _partial_index(name: str, table: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(op.f(name), table, [column], postgresql_where=condition, sqlite_where=condition)


def _accounts() -> None:
    op.create_table(
        "accounts",
        _id("id"),
        _text("email", 254),
        _text("name", 200),
        _text("password_hash", 255),
        _text("role", 16),
        _moment("disabled_at", nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        _check("accounts", "role", "user", "admin"),
        _primary("accounts", "id"),
        sa.UniqueConstraint("email", name=op.f("uq_accounts_email")),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        _id("id"),
        _id("account_id"),
        _text("token_hash", 64),
        _moment("created_at"),
        _moment("expires_at"),
        _moment("revoked_at", nullable=True),
        _refers("sessions", "account_id", "accounts", ondelete="CASCADE"),
        _primary("sessions", "id"),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sessions_token_hash")),
    )
    op.create_index(op.f("ix_sessions_account_id"), "sessions", ["account_id"])


def _projects() -> None:
    op.create_table(
        "projects",
        _id("id"),
        _id("owner_id"),
        _text("name", 200),
        sa.Column("description", sa.Text(), nullable=False),
        _int("version"),
        _moment("created_at"),
        _moment("updated_at"),
        _refers("projects", "owner_id", "accounts", ondelete="CASCADE"),
        _primary("projects", "id"),
    )
    op.create_index(op.f("ix_projects_owner_id_id"), "projects", ["owner_id", "id"])


def _tasks() -> None:
    op.create_table(
        "tasks",
        _id("id"),
        _id("project_id"),
        _text("title", 500),
        sa.Column("description", sa.Text(), nullable=False),
        _text("status", 16),
        _text("priority", 16),
        _moment("due_at", nullable=True),
        _id("assignee_id", nullable=True),
        _int("version"),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("completed_at", nullable=True),
        _moment("overdue_at", nullable=True),
        _check("tasks", "status", "pending", "in_progress", "completed", "cancelled"),
        _check("tasks", "priority", "low", "medium", "high", "urgent"),
        _refers("tasks", "project_id", "projects", ondelete="CASCADE"),
        _refers("tasks", "assignee_id", "accounts", ondelete="SET NULL"),
        _primary("tasks", "id"),
    )
    op.create_index(op.f("ix_tasks_project_id_id"), "tasks", ["project_id", "id"])
    _partial_index("ix_tasks_unmarked", "tasks", "due_at", _UNMARKED)


def _task_labels() -> None:
    op.create_table(
        "task_labels",
        _id("task_id"),
        _text("name", 50),
        _refers("task_labels", "task_id", "tasks", ondelete="CASCADE"),
        _primary("task_labels", "task_id", "name"),
    )
    op.create_index(op.f("ix_task_labels_name"), "task_labels", ["name"])


def _outbox() -> None:
    op.create_table(
        "outbox",
        _id("id"),
        _text("kind", 64),
        _id("subject_id"),
        _id("project_id", nullable=True),
        sa.Column("payload", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        _moment("created_at"),
        _moment("done_at", nullable=True),
        _primary("outbox", "id"),
    )
    _partial_index("ix_outbox_pending", "outbox", "created_at", _PENDING)


def _cron_jobs() -> None:
    op.create_table(
        "cron_jobs",
        _text("job", 64),
        _big("fence"),
        _text("holder", 200),
        _big("slot"),
        _big("lease_until"),
        sa.Column("paused", sa.Boolean(), nullable=False),
        _primary("cron_jobs", "job"),
    )


def _cron_runs() -> None:
    op.create_table(
        "cron_runs",
        _text("job", 64),
        _big("slot"),
        _int("attempt"),
        _big("fence"),
        _text("instance", 200),
        _moment("started_at"),
        _moment("heartbeat_at"),
        _moment("ended_at", nullable=True),
        _text("outcome", 16, nullable=True),
        _int("rows"),
        _check(
            *("cron_runs", "outcome"),
            *("succeeded", "failed", "fenced_out", "abandoned", "missed"),
        ),
        _primary("cron_runs", "job", "slot"),
    )
