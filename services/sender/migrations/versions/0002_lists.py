"""Indexes of the few deliveries that wait or that nobody has got: lists of them stay as fast as in a new database.

Revision ID: sender_0002
"""

import sqlalchemy as sa
from alembic import op

revision = "sender_0002"
down_revision = "sender_0001"
branch_labels = None
depends_on = None

_WITHOUT_MAIL = "state IN ('failed', 'unknown', 'expired', 'suppressed', 'cancelled')"


def upgrade() -> None:
    """Add partial indexes: a message that is simply sent is in neither."""
    op.create_index(
        "deliveries_deferred_of_run",
        "deliveries",
        ["run_id", "next_attempt_time"],
        unique=False,
        sqlite_where=sa.text("state = 'deferred'"),
        postgresql_where=sa.text("state = 'deferred'"),
    )
    op.create_index(
        "deliveries_without_mail",
        "deliveries",
        ["state", "id"],
        unique=False,
        sqlite_where=sa.text(_WITHOUT_MAIL),
        postgresql_where=sa.text(_WITHOUT_MAIL),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("deliveries_without_mail", "deliveries")
    op.drop_index("deliveries_deferred_of_run", "deliveries")
