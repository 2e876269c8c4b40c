"""The settings of the sender."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from mailer.config import CommonSettings, Span, parse_span

# As long as answers to repeated requests are kept: within it a caller may come again with a batch of the run.
SHORTEST_RETENTION = timedelta(days=7)


class SenderSettings(CommonSettings):
    """What the sender needs to know; every default works on one machine."""

    prefix: ClassVar[str] = "MAILER_SENDER_"

    port: int = Field(50052, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    metrics_port: int = Field(9052, ge=0, le=65535, description="The port of /metrics; 0 turns it off.")
    queue_limit: int = Field(
        50_000, ge=1, description="Messages that may wait per run; beyond it SendBatch answers RESOURCE_EXHAUSTED."
    )
    idle_connection: Span = Field(
        parse_span("30s"), description="How long an SMTP connection without work is kept open."
    )
    connection_messages: int = Field(
        500, ge=1, description="Messages sent over one SMTP connection before a fresh one is opened."
    )
    delivery_retention: Span | None = Field(
        None,
        description="How long the deliveries of a run are kept once it is over, at least 7d; unset: for ever.",
    )
    stop_grace: Span = Field(parse_span("10s"), description="How long messages on their way may take to end at a stop.")
    secrets_dir: Path = Field(
        default_factory=lambda known: Path(known.get("data_dir", "data")) / "secrets",
        description="Where the files are that accounts name in password_file.",
    )

    @field_validator("delivery_retention")
    @classmethod
    def _long_enough(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < SHORTEST_RETENTION:
            raise ValueError("is too short: use 7d or more, or leave it out to keep them for ever")
        return value
