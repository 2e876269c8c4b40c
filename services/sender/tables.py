"""The sender's tables. Owned by its migrations; nobody else reads them.

States are stored as lower-case text without prefix, so that a person with an SQL shell can read the book.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    text,
)

from mailer.database.types import Instant
from mailer.idempotency import request_table

metadata = MetaData()

# SQLite gives rowids only to INTEGER keys; PostgreSQL needs 64 bits.
RowId = BigInteger().with_variant(Integer, "sqlite")

accounts = Table(
    "sender_accounts",
    metadata,
    Column("account_id", String(32), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("tls_mode", String(10), nullable=False),  # tls, starttls, none
    Column("username", Text, nullable=False),
    Column("credential_kind", String(10), nullable=False),  # '', sealed, env, file
    Column("credential_value", Text, nullable=False),  # sealed password, or the reference
    Column("from_addresses", Text, nullable=False),  # JSON list of strings
    Column("max_connection_count", Integer, nullable=False),
    Column("per_second_count", Integer, nullable=False),
    Column("per_minute_count", Integer, nullable=False),
    Column("per_hour_count", Integer, nullable=False),
    Column("per_day_count", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("ca_certificates", Text, nullable=False),
    Column("local_hostname", String(255), nullable=False),
    Column("circuit_policy", LargeBinary, nullable=False),  # serialized CircuitPolicy
    Column("retry_policy", LargeBinary, nullable=False),  # serialized RetryPolicy
    # The circuit: what must survive a restart, and what several senders share.
    Column("circuit_breaker_until", Instant),  # open until then; NULL while closed
    Column("circuit_rest_seconds", Integer, nullable=False),  # the present rest, doubled by each failed probe
    Column("circuit_failure_count", Integer, nullable=False),
    Column("circuit_last_failure", Text, nullable=False),
    Column("circuit_opened_count", BigInteger, nullable=False),
    Column("circuit_closed_count", BigInteger, nullable=False),
    Column("probe_worker", String(32)),  # who holds the one probe
    Column("probe_until", Instant),  # when that claim ends by itself
    # What waits for a person, and what the server asked for.
    Column("held", Boolean, nullable=False),
    Column("hold_reason", Text, nullable=False),
    Column("barred_addresses", Text, nullable=False),  # JSON object: From address that the server refuses -> its words
    Column("rest_until", Instant),
    Column("rest_reason", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # + 1 with every change: how other processes notice
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)

# Messages counted per account and minute: what the caps are checked against, across restarts and processes.
account_usage = Table(
    "account_usage",
    metadata,
    Column("account_id", String(32), primary_key=True),
    Column("minute", BigInteger, primary_key=True),  # whole minutes since 1970-01-01T00:00Z
    Column("message_count", Integer, nullable=False),
)

contents = Table(
    "contents",
    metadata,
    Column("content_hash", String(64), primary_key=True),  # SHA-256 of content, hexadecimal
    Column("content", LargeBinary, nullable=False),  # serialized MessageContent
    Column("create_time", Instant, nullable=False),
)

runs = Table(
    "sender_runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("campaign_id", String(64), nullable=False),
    Column("state", String(10), nullable=False),  # active, paused, held, cancelled
    Column("state_reason", Text, nullable=False),
    Column("policy", String(15), nullable=False),  # at_most_once, at_least_once
    Column("options", LargeBinary, nullable=False),  # serialized DeliveryOptions
    Column("content_hash", String(64), nullable=False),  # of the first batch; '' until there is one
    Column("unfinished", Boolean, nullable=False),  # False once every delivery is final
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("end_time", Instant),  # since when every delivery was seen to be final; NULL while one is not
    # The tombstone of a run that is over for long: its deliveries are being removed since, and none is stored again.
    Column("removal_time", Instant),
    Column("emptied", Boolean, nullable=False, server_default=text("false")),  # True once all of them are removed
)

Index(
    "sender_runs_unfinished",
    runs.c.run_id,
    sqlite_where=text("unfinished = 1"),
    postgresql_where=text("unfinished"),
)

Index("sender_runs_of_campaign", runs.c.campaign_id)

HAS_ROWS = {"sqlite": text("sender_runs.emptied = 0"), "postgresql": text("NOT sender_runs.emptied")}
"""The condition of the index by which runs are found that ended, or that ended long ago."""

Index(
    "sender_runs_with_rows",
    runs.c.end_time,
    runs.c.unfinished,
    sqlite_where=text("emptied = 0"),
    postgresql_where=text("NOT emptied"),
)

# How many deliveries of a run are in which state: changed in the transaction that changes the deliveries.
run_counts = Table(
    "run_counts",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("state", String(10), primary_key=True),
    Column("delivery_count", BigInteger, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),  # order of arrival; never leaves the database
    Column("delivery_key", String(32), nullable=False, unique=True),
    Column("run_id", String(64), nullable=False),
    Column("campaign_id", String(64), nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("address", Text, nullable=False),  # as it was given
    Column("canonical", Text, nullable=False),  # what makes two addresses the same
    Column("display_name", Text, nullable=False),
    Column("variables", LargeBinary, nullable=False),  # serialized google.protobuf.Struct
    Column("state", String(10), nullable=False),
    Column("token", Integer, nullable=False),  # + 1 with every claim: what a late worker lacks
    Column("worker", String(32)),  # who claimed it
    Column("account_id", String(32), nullable=False),  # of the last attempt; '' before
    Column("attempt_count", Integer, nullable=False),  # counted attempts
    Column("possible_duplicate", Boolean, nullable=False),
    Column("rule", Text, nullable=False),  # row of the table of replies that applied last; '' before
    Column("rule_count", Integer, nullable=False),  # how often in a row it applied
    Column("rule_since", Instant),  # when it applied first
    Column("state_reason", Text, nullable=False),
    Column("reply_code", Integer, nullable=False),
    Column("enhanced_code", String(12), nullable=False),
    Column("reply_text", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("next_attempt_time", Instant),  # set while deferred
    Column("expire_time", Instant, nullable=False),
)

# Who claims deliveries. A worker's lock file proves that it lives; the heartbeat is the second line.
workers = Table(
    "sender_workers",
    metadata,
    Column("worker_id", String(32), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("process_id", Integer, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("heartbeat_time", Instant, nullable=False),
)

# Partial indexes stay as small as the work that is open or in trouble, however many old rows there are. SQLite uses one
# only when the query holds its condition to the letter, so queries say these conditions and narrow them further.
IS_PENDING = text("deliveries.state = 'pending'")
IS_DEFERRED = text("deliveries.state = 'deferred'")
IS_IN_PROGRESS = text("deliveries.state IN ('claimed', 'dot_intent')")
IS_TROUBLED = text("deliveries.state IN ('failed', 'unknown', 'expired', 'suppressed')")
IS_WITHOUT_MAIL = text("deliveries.state IN ('failed', 'unknown', 'expired', 'suppressed', 'cancelled')")


def _partial_index(name: str, condition: TextClause, *columns: Column[Any]) -> None:
    where = text(condition.text.replace("deliveries.", ""))
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


_partial_index("deliveries_pending", IS_PENDING, deliveries.c.run_id, deliveries.c.id)
_partial_index("deliveries_deferred", IS_DEFERRED, deliveries.c.next_attempt_time)
_partial_index("deliveries_deferred_of_run", IS_DEFERRED, deliveries.c.run_id, deliveries.c.next_attempt_time)
_partial_index("deliveries_in_progress", IS_IN_PROGRESS, deliveries.c.worker)
_partial_index("deliveries_troubled", IS_TROUBLED, deliveries.c.run_id, deliveries.c.state, deliveries.c.id)
_partial_index("deliveries_without_mail", IS_WITHOUT_MAIL, deliveries.c.state, deliveries.c.id)
Index("deliveries_of_run", deliveries.c.run_id, deliveries.c.id)
Index("deliveries_of_address", deliveries.c.canonical)

# Append-only: one row per attempt, and per decision of a person.
send_logs = Table(
    "send_logs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("log_key", String(48), nullable=False, unique=True),  # <delivery_key>:<token, 8 digits>:<step>
    Column("run_id", String(64), nullable=False),
    Column("account_id", String(32), nullable=False),
    Column("worker", String(32), nullable=False),
    Column("stage", String(20), nullable=False),
    Column("outcome", String(10), nullable=False),  # sent, deferred, failed, requeued, unknown, resolved
    Column("reply_code", Integer, nullable=False),
    Column("enhanced_code", String(12), nullable=False),
    Column("reply_text", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("retry_count", Integer, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_time", Instant, nullable=False),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("address", String(320), primary_key=True),  # canonical form
    Column("reason", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
)

requests = request_table(metadata, "sender")
