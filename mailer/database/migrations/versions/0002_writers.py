"""Processes that write, and how far each has come.

Revision ID: database_0002
"""

import sqlalchemy as sa
from alembic import op

revision = "database_0002"
down_revision = "database_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of marks, see mark.py."""
    op.create_table(
        "database_writers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("writer_id", sa.String(32), nullable=False, unique=True),
        sa.Column("last_group", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("database_writers")
