"""What changes make stale in the caches is written down with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_LIST = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Nothing reads it before the new release writes it."""
    op.create_table(
        "invalidations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("namespaces", _LIST, nullable=False),
        sa.Column("tags", _LIST, nullable=False),
        sa.Column("told", sa.String(64), nullable=True),
        sa.Column("told_before", sa.String(128), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invalidations")),
    )
    op.create_index(op.f("ix_invalidations_told"), "invalidations", ["told"])
    op.create_index(op.f("ix_invalidations_created_ms"), "invalidations", ["created_ms"])


def downgrade() -> None:
    """What is not told yet is lost: entries live on for their time."""
    op.drop_table("invalidations")
