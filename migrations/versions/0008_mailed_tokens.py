"""Tokens that were sent by mail, and addresses that are verified by them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """The last release neither reads nor writes them; nobody's address is verified yet."""
    op.add_column("accounts", sa.Column("email_verified_at", _MOMENT, nullable=True))
    op.create_table(
        "mailed_tokens",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.CheckConstraint("purpose IN ('reset', 'verify')", name=op.f("ck_mailed_tokens_purpose")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_mailed_tokens_account_id_accounts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("account_id", "purpose", name=op.f("pk_mailed_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_mailed_tokens_token_hash")),
    )


def downgrade() -> None:
    """Tokens in the mail are good for nothing; addresses have to be verified again."""
    op.drop_table("mailed_tokens")
    op.drop_column("accounts", "email_verified_at")
