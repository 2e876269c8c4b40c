"""When a run ended, and the tombstone of one whose deliveries were removed.

Revision ID: sender_0003
"""

import sqlalchemy as sa
from alembic import op

from mailer.database import Instant

revision = "sender_0003"
down_revision = "sender_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; runs that are over already are seen to be so, and counted from, when the sender starts."""
    op.add_column("sender_runs", sa.Column("end_time", Instant(), nullable=True))
    op.add_column("sender_runs", sa.Column("removal_time", Instant(), nullable=True))
    op.add_column("sender_runs", sa.Column("emptied", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_index(
        "sender_runs_with_rows",
        "sender_runs",
        ["end_time", "unfinished"],
        unique=False,
        sqlite_where=sa.text("emptied = 0"),
        postgresql_where=sa.text("NOT emptied"),
    )


def downgrade() -> None:
    """Take them back."""
    op.drop_index("sender_runs_with_rows", "sender_runs")
    for column in ("emptied", "removal_time", "end_time"):
        op.drop_column("sender_runs", column)
