"""Accounts have a plan, and plans and roles may have limits of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every account begins with the plan `standard`, for which the settings' limits hold."""
    plan = sa.Column("plan", sa.String(32), nullable=False, server_default="standard")
    op.add_column("accounts", plan)
    op.create_table(
        "limit_rules",
        sa.Column("subject", sa.String(40), nullable=False),
        sa.Column("budget", sa.String(16), nullable=False),
        sa.Column("limits", sa.String(500), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "budget", name=op.f("pk_limit_rules")),
    )


def downgrade() -> None:
    """Plans and their limits are lost."""
    op.drop_table("limit_rules")
    op.drop_column("accounts", "plan")
