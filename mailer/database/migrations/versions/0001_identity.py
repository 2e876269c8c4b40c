"""The identity of the database.

Revision ID: database_0001
"""

import sqlalchemy as sa
from alembic import op

revision = "database_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the one-row table that tells one life of the database from the next."""
    op.create_table(
        "database_identity",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="database_identity_one_row"), primary_key=True),
        sa.Column("incarnation", sa.String(32), nullable=False),
        sa.Column("created_time", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("database_identity")
