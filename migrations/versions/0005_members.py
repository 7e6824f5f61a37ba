"""Projects have members, invitations and an archive."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OWNED = "role = 'owner'"
_OWNERS = """
INSERT INTO project_members (project_id, account_id, role, created_at)
SELECT id, owner_id, 'owner', created_at FROM projects
"""


def upgrade() -> None:
    """Every owner becomes a member: from now on membership alone decides who sees a project."""
    op.add_column("projects", sa.Column("archived_at", sa.DateTime(timezone=True)))
    _members()
    op.execute(_OWNERS)
    _invitations()


def downgrade() -> None:
    """Members are lost, but for the owners; what was archived can be written again."""
    op.drop_table("project_invitations")
    op.drop_table("project_members")
    op.drop_column("projects", "archived_at")


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{to}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=name, ondelete="CASCADE")


def _members() -> None:
    op.create_table(
        "project_members",
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'editor', 'viewer')", name=op.f("ck_project_members_role")
        ),
        _refers("project_members", "project_id", "projects"),
        _refers("project_members", "account_id", "accounts"),
        sa.PrimaryKeyConstraint("project_id", "account_id", name=op.f("pk_project_members")),
    )
    columns = ["account_id", "project_id"]
    op.create_index(op.f("ix_project_members_account_id_project_id"), "project_members", columns)
    op.create_index(
        op.f("uq_project_members_owner"),
        "project_members",
        ["project_id"],
        unique=True,
        postgresql_where=sa.text(_OWNED),
        sqlite_where=sa.text(_OWNED),
    )


def _invitations() -> None:
    op.create_table(
        "project_invitations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "role IN ('owner', 'editor', 'viewer')", name=op.f("ck_project_invitations_role")
        ),
        _refers("project_invitations", "project_id", "projects"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_invitations")),
        sa.UniqueConstraint("project_id", "email", name=op.f("uq_project_invitations_project_id")),
    )
    columns = ["email", "id"]
    op.create_index(op.f("ix_project_invitations_email_id"), "project_invitations", columns)
