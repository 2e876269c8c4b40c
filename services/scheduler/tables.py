"""The scheduler's tables. Owned by its migrations; nobody else reads them.

States are stored as lower-case text without prefix, so that a person with an SQL shell can read them.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mailer.database.types import Instant
from mailer.idempotency import request_table

metadata = MetaData()

templates = Table(
    "templates",
    metadata,
    Column("template_id", String(32), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("content", LargeBinary, nullable=False),  # serialized MessageContent
    Column("required_variables", Text, nullable=False),  # JSON list of strings
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("campaign_id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    # One of the two is set. No foreign key: a restore may bring a campaign back without its template.
    Column("template_id", String(32), nullable=False),  # '' with content of its own
    Column("content", LargeBinary),  # serialized MessageContent
    Column("required_variables", Text, nullable=False),  # JSON list, of content; of a template: see there
    Column("options", LargeBinary, nullable=False),  # serialized DeliveryOptions
    Column("state", String(10), nullable=False),
    Column("state_reason", Text, nullable=False),
    # The schedule; all empty until there is one.
    Column("send_time", Instant),
    Column("cron", String(128), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("max_lateness", BigInteger, nullable=False),  # microseconds
    Column("next_due_time", Instant),
    Column("recipient_count", BigInteger, nullable=False),
    Column("duplicate_count", BigInteger, nullable=False),
    Column("last_position", BigInteger, nullable=False),  # of the recipient added last
    # JSON list: variables that every recipient is known to have, so that they need not be read again.
    Column("known_variables", Text, nullable=False),
    Column("latest_run_id", String(32), nullable=False),  # '' before the first
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)

Index("campaigns_due", campaigns.c.state, campaigns.c.next_due_time)
Index("campaigns_by_time", campaigns.c.create_time, campaigns.c.campaign_id)
Index("campaigns_by_state", campaigns.c.state, campaigns.c.create_time, campaigns.c.campaign_id)
Index("campaigns_of_template", campaigns.c.template_id)

# No foreign key to the campaign: it would be looked up for each of a million rows.
recipients = Table(
    "recipients",
    metadata,
    Column("campaign_id", String(32), primary_key=True),
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # grows; has gaps
    Column("address", Text, nullable=False),  # canonical spelling
    Column("canonical", Text, nullable=False),  # what makes two addresses the same
    Column("display_name", Text, nullable=False),
    Column("variables", LargeBinary, nullable=False),  # serialized google.protobuf.Struct
    UniqueConstraint("campaign_id", "canonical"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(32), primary_key=True),  # uuid5 of campaign and slot: two schedulers make one
    Column("campaign_id", String(32), ForeignKey("campaigns.campaign_id"), nullable=False),
    Column("slot_time", Instant, nullable=False),
    Column("state", String(12), nullable=False),
    Column("state_reason", Text, nullable=False),
    # As they were when the run began: what comes later does not change it.
    Column("content", LargeBinary, nullable=False),  # serialized MessageContent
    Column("options", LargeBinary, nullable=False),  # serialized DeliveryOptions
    Column("batch_count_limit", Integer, nullable=False),
    Column("batch_byte_limit", Integer, nullable=False),
    Column("recipient_count", BigInteger, nullable=False),
    # The hand-over: everyone up to `cursor` is with the sender.
    Column("cursor", BigInteger, nullable=False),
    Column("dispatched_count", BigInteger, nullable=False),
    Column("rejected_count", BigInteger, nullable=False),
    Column("handed_over", Boolean, nullable=False),  # the sender has all of it
    # What the sender should do with the run (active, paused, cancelled), and what it was told last.
    Column("wanted", String(10), nullable=False),
    Column("told", String(10), nullable=False),
    Column("counts", LargeBinary, nullable=False),  # serialized DeliveryCounts, as last heard
    Column("revision", Integer, nullable=False),  # + 1 with every decision: what a late observer lacks
    Column("start_time", Instant),
    Column("end_time", Instant),
    UniqueConstraint("campaign_id", "slot_time"),
)

IS_OPEN = text("runs.end_time IS NULL")
"""The condition of the index by which unfinished runs are found."""

Index(
    "runs_open",
    runs.c.run_id,
    sqlite_where=text("end_time IS NULL"),
    postgresql_where=text("end_time IS NULL"),
)

# What the scheduler remembers about the database as a whole.
marks = Table(
    "scheduler_marks",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

requests = request_table(metadata, "scheduler")
