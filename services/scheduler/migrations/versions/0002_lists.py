"""An index that gives campaigns of a state in the order in which they are listed.

Revision ID: scheduler_0002
"""

from alembic import op

revision = "scheduler_0002"
down_revision = "scheduler_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Widen the index by the id that orders campaigns of one instant."""
    op.drop_index("campaigns_by_state", "campaigns")
    op.create_index("campaigns_by_state", "campaigns", ["state", "create_time", "campaign_id"], unique=False)


def downgrade() -> None:
    """Narrow it."""
    op.drop_index("campaigns_by_state", "campaigns")
    op.create_index("campaigns_by_state", "campaigns", ["state", "create_time"], unique=False)
