"""The ledger of runs has a row for each attempt, and a slot at most one final outcome.

The table is made anew, on both databases in the same way: SQLite cannot change a primary key.
Schedulers of the build before this one find no slot to run until they are replaced.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FINAL = sa.text("outcome IN ('succeeded', 'failed', 'abandoned', 'missed')")
_OLD = "job, slot, attempt, fence, instance, started_at, heartbeat_at, ended_at, outcome, rows"
_OUTCOMES = ("succeeded", "failed", "fenced_out", "abandoned", "missed")


def upgrade() -> None:
    """Rebuild `cron_runs` with the attempt in its key; what was there is one attempt each."""
    _set_aside()
    _create(
        *("job", "slot", "attempt"),
        rows=sa.BigInteger(),
        outcomes=("succeeded", "failed", "stopped", *_OUTCOMES[2:]),
    )
    op.add_column("cron_runs", sa.Column("total", sa.BigInteger(), nullable=True))
    op.create_index(
        *("uq_cron_runs_final", "cron_runs", ["job", "slot"]),
        unique=True,
        postgresql_where=_FINAL,
        sqlite_where=_FINAL,
    )
    _take_back("cron_runs_before")


def downgrade() -> None:
    """Keep of each slot its last attempt; one that was stopped counts as still open."""
    op.execute("UPDATE cron_runs SET outcome = NULL WHERE outcome = 'stopped'")
    _set_aside()
    _create("job", "slot", rows=sa.Integer(), outcomes=_OUTCOMES)
    last = "SELECT max(attempt) FROM cron_runs_before l WHERE l.job = b.job AND l.slot = b.slot"
    _take_back(f"cron_runs_before b WHERE attempt = ({last})")


def _set_aside() -> None:
    op.execute("CREATE TABLE cron_runs_before AS SELECT * FROM cron_runs")
    op.drop_table("cron_runs")


def _take_back(source: str) -> None:
    op.execute(f"INSERT INTO cron_runs ({_OLD}) SELECT {_OLD} FROM {source}")
    op.drop_table("cron_runs_before")


def _create(*key: str, rows: sa.types.TypeEngine[int], outcomes: tuple[str, ...]) -> None:
    allowed = ", ".join(f"'{word}'" for word in outcomes)
    op.create_table(
        "cron_runs",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("slot", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("instance", sa.String(200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(16), nullable=True),
        sa.Column("rows", rows, nullable=False),
        sa.CheckConstraint(f"outcome IN ({allowed})", name=op.f("ck_cron_runs_outcome")),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_cron_runs")),
    )
