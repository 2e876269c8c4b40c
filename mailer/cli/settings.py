"""What the command reads from the environment and the settings file: where the services are and how to trust them."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mailer.config import COMMON_PREFIX, CommonSettings


class CommandSettings(CommonSettings):
    """The settings of `mailer`; an address that is not set follows from the service's port."""

    prefix: ClassVar[str] = COMMON_PREFIX

    scheduler_port: int = Field(50051, ge=0, le=65535, description="The scheduler's port, as the scheduler reads it.")
    sender_port: int = Field(50052, ge=0, le=65535, description="The sender's port, as the sender reads it.")
    backup_port: int = Field(50053, ge=0, le=65535, description="The backup service's port, as that service reads it.")
    scheduler_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known.get('scheduler_port', 50051)}",
        description="host:port of the scheduler.",
    )
    sender_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known.get('sender_port', 50052)}",
        description="host:port of the sender.",
    )
    backup_address: str = Field(
        default_factory=lambda known: f"127.0.0.1:{known.get('backup_port', 50053)}",
        description="host:port of the backup service.",
    )
    scheduler_metrics_port: int = Field(9051, ge=0, le=65535, description="As the scheduler reads it.")
    sender_metrics_port: int = Field(9052, ge=0, le=65535, description="As the sender reads it.")
    backup_metrics_port: int = Field(9053, ge=0, le=65535, description="As the backup service reads it.")
    ca_file: Path | None = Field(None, description="PEM; the command speaks TLS and trusts this authority.")
    client_certificate_file: Path | None = Field(None, description="PEM; the certificate that the command shows.")
    client_key_file: Path | None = Field(None, description="PEM; the key of that certificate.")

    def problems(self) -> list[str]:
        """Return nothing: what concerns servers alone must not keep an operator from asking them."""
        return []
