"""The settings of the scheduler."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mailer.config import CommonSettings, Span, parse_span
from mailer.tls import ClientTls


class SchedulerSettings(CommonSettings):
    """What the scheduler needs to know; every default works on one machine."""

    prefix: ClassVar[str] = "MAILER_SCHEDULER_"

    port: int = Field(50051, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    metrics_port: int = Field(9051, ge=0, le=65535, description="The port of /metrics; 0 turns it off.")
    sender_address: str = Field(
        "127.0.0.1:50052", min_length=1, description="The sender: host:port, or dns:///name:port for several."
    )
    sender_tls: bool = Field(False, description="Speak TLS with the sender.")
    sender_ca_file: Path | None = Field(None, description="PEM; the authority of the sender's certificate.")
    client_certificate_file: Path | None = Field(
        None, description="PEM; what the scheduler shows the sender (mutual TLS)."
    )
    client_key_file: Path | None = Field(None, description="PEM; the key of the client certificate.")
    poll_interval: Span = Field(parse_span("1s"), description="How often the database is asked what is due, at least.")
    batch_size: int = Field(500, ge=1, le=1000, description="Recipients per batch, at most.")
    batch_bytes: int = Field(
        1024 * 1024, ge=32 * 1024, le=3 * 1024 * 1024, description="Bytes of recipients per batch, at most."
    )
    batch_timeout: Span = Field(
        parse_span("30s"), description="How long the sender may take to answer a batch before it is repeated."
    )
    concurrent_batches: int = Field(4, ge=1, le=64, description="Batches on their way at the same time.")

    @property
    def tls_to_sender(self) -> ClientTls | None:
        """Return how the sender is spoken to; None without TLS."""
        if not self.sender_tls:
            return None
        return ClientTls(self.sender_ca_file, self.client_certificate_file, self.client_key_file)
