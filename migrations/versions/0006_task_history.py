"""Tasks have a history: one row for each version that somebody made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LIST = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Tasks from before have none: who made them was not written down."""
    op.create_table(
        "task_history",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("changes", _LIST, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "action IN ('created', 'changed', 'completed', 'reopened', 'unassigned')",
            name=op.f("ck_task_history_action"),
        ),
        _refers("task_id", "tasks", ondelete="CASCADE"),
        _refers("account_id", "accounts", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("task_id", "version", name=op.f("pk_task_history")),
    )


def downgrade() -> None:
    """The history is lost."""
    op.drop_table("task_history")


def _refers(column: str, to: str, *, ondelete: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_task_history_{column}_{to}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, ondelete=ondelete)
