"""The scheduler's first tables: templates, campaigns, recipients, runs.

Revision ID: scheduler_0001
"""

import sqlalchemy as sa
from alembic import op

from mailer.database import Instant

revision = "scheduler_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "campaigns",
        sa.Column("campaign_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("template_id", sa.String(length=32), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("required_variables", sa.Text(), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("send_time", Instant(), nullable=True),
        sa.Column("cron", sa.String(length=128), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("max_lateness", sa.BigInteger(), nullable=False),
        sa.Column("next_due_time", Instant(), nullable=True),
        sa.Column("recipient_count", sa.BigInteger(), nullable=False),
        sa.Column("duplicate_count", sa.BigInteger(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("known_variables", sa.Text(), nullable=False),
        sa.Column("latest_run_id", sa.String(length=32), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.Column("update_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id"),
    )
    op.create_index("campaigns_by_state", "campaigns", ["state", "create_time"], unique=False)
    op.create_index("campaigns_by_time", "campaigns", ["create_time", "campaign_id"], unique=False)
    op.create_index("campaigns_due", "campaigns", ["state", "next_due_time"], unique=False)
    op.create_index("campaigns_of_template", "campaigns", ["template_id"], unique=False)
    op.create_table(
        "recipients",
        sa.Column("campaign_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("variables", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "position"),
        sa.UniqueConstraint("campaign_id", "canonical"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scheduler_marks",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "scheduler_requests",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("scheduler_requests_by_time", "scheduler_requests", ["created_time"], unique=False)
    op.create_table(
        "templates",
        sa.Column("template_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("required_variables", sa.Text(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.Column("update_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("template_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("campaign_id", sa.String(length=32), nullable=False),
        sa.Column("slot_time", Instant(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("batch_count_limit", sa.Integer(), nullable=False),
        sa.Column("batch_byte_limit", sa.Integer(), nullable=False),
        sa.Column("recipient_count", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("dispatched_count", sa.BigInteger(), nullable=False),
        sa.Column("rejected_count", sa.BigInteger(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.String(length=10), nullable=False),
        sa.Column("told", sa.String(length=10), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("start_time", Instant(), nullable=True),
        sa.Column("end_time", Instant(), nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.campaign_id"],
        ),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("campaign_id", "slot_time"),
    )
    op.create_index(
        "runs_open",
        "runs",
        ["run_id"],
        unique=False,
        sqlite_where=sa.text("end_time IS NULL"),
        postgresql_where=sa.text("end_time IS NULL"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("runs", "recipients", "campaigns", "templates", "scheduler_marks", "scheduler_requests"):
        op.drop_table(table)
