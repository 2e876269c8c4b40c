"""The sender's first tables: accounts, runs, deliveries, their log, suppressions.

Revision ID: sender_0001
"""

import sqlalchemy as sa
from alembic import op

from mailer.database import Instant

revision = "sender_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "account_usage",
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "minute"),
    )
    op.create_table(
        "contents",
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("content_hash"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("delivery_key", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.String(length=64), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("variables", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=32), nullable=True),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("possible_duplicate", sa.Boolean(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("rule_count", sa.Integer(), nullable=False),
        sa.Column("rule_since", Instant(), nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("reply_code", sa.Integer(), nullable=False),
        sa.Column("enhanced_code", sa.String(length=12), nullable=False),
        sa.Column("reply_text", sa.Text(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.Column("update_time", Instant(), nullable=False),
        sa.Column("next_attempt_time", Instant(), nullable=True),
        sa.Column("expire_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("delivery_key"),
    )
    op.create_index(
        "deliveries_deferred",
        "deliveries",
        ["next_attempt_time"],
        unique=False,
        sqlite_where=sa.text("state = 'deferred'"),
        postgresql_where=sa.text("state = 'deferred'"),
    )
    op.create_index(
        "deliveries_in_progress",
        "deliveries",
        ["worker"],
        unique=False,
        sqlite_where=sa.text("state IN ('claimed', 'dot_intent')"),
        postgresql_where=sa.text("state IN ('claimed', 'dot_intent')"),
    )
    op.create_index("deliveries_of_address", "deliveries", ["canonical"], unique=False)
    op.create_index("deliveries_of_run", "deliveries", ["run_id", "id"], unique=False)
    op.create_index(
        "deliveries_pending",
        "deliveries",
        ["run_id", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "deliveries_troubled",
        "deliveries",
        ["run_id", "state", "id"],
        unique=False,
        sqlite_where=sa.text("state IN ('failed', 'unknown', 'expired', 'suppressed')"),
        postgresql_where=sa.text("state IN ('failed', 'unknown', 'expired', 'suppressed')"),
    )
    op.create_table(
        "run_counts",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("delivery_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "state"),
    )
    op.create_table(
        "send_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("log_key", sa.String(length=48), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("worker", sa.String(length=32), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("reply_code", sa.Integer(), nullable=False),
        sa.Column("enhanced_code", sa.String(length=12), nullable=False),
        sa.Column("reply_text", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("start_time", Instant(), nullable=False),
        sa.Column("end_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("log_key"),
    )
    op.create_table(
        "sender_accounts",
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("tls_mode", sa.String(length=10), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("credential_kind", sa.String(length=10), nullable=False),
        sa.Column("credential_value", sa.Text(), nullable=False),
        sa.Column("from_addresses", sa.Text(), nullable=False),
        sa.Column("max_connection_count", sa.Integer(), nullable=False),
        sa.Column("per_second_count", sa.Integer(), nullable=False),
        sa.Column("per_minute_count", sa.Integer(), nullable=False),
        sa.Column("per_hour_count", sa.Integer(), nullable=False),
        sa.Column("per_day_count", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("ca_certificates", sa.Text(), nullable=False),
        sa.Column("local_hostname", sa.String(length=255), nullable=False),
        sa.Column("circuit_policy", sa.LargeBinary(), nullable=False),
        sa.Column("retry_policy", sa.LargeBinary(), nullable=False),
        sa.Column("circuit_breaker_until", Instant(), nullable=True),
        sa.Column("circuit_rest_seconds", sa.Integer(), nullable=False),
        sa.Column("circuit_failure_count", sa.Integer(), nullable=False),
        sa.Column("circuit_last_failure", sa.Text(), nullable=False),
        sa.Column("circuit_opened_count", sa.BigInteger(), nullable=False),
        sa.Column("circuit_closed_count", sa.BigInteger(), nullable=False),
        sa.Column("probe_worker", sa.String(length=32), nullable=True),
        sa.Column("probe_until", Instant(), nullable=True),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("hold_reason", sa.Text(), nullable=False),
        sa.Column("barred_addresses", sa.Text(), nullable=False),
        sa.Column("rest_until", Instant(), nullable=True),
        sa.Column("rest_reason", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.Column("update_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "sender_requests",
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("method", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index("sender_requests_by_time", "sender_requests", ["created_time"], unique=False)
    op.create_table(
        "sender_runs",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(length=15), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("unfinished", sa.Boolean(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.Column("update_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("sender_runs_of_campaign", "sender_runs", ["campaign_id"], unique=False)
    op.create_index(
        "sender_runs_unfinished",
        "sender_runs",
        ["run_id"],
        unique=False,
        sqlite_where=sa.text("unfinished = 1"),
        postgresql_where=sa.text("unfinished"),
    )
    op.create_table(
        "sender_workers",
        sa.Column("worker_id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("start_time", Instant(), nullable=False),
        sa.Column("heartbeat_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id"),
    )
    op.create_table(
        "suppressions",
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("create_time", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("address"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        "account_usage",
        "contents",
        "deliveries",
        "run_counts",
        "send_logs",
        "sender_accounts",
        "sender_requests",
        "sender_runs",
        "sender_workers",
        "suppressions",
    ):
        op.drop_table(table)
