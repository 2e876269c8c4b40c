"""An account at an SMTP submission server: its settings, and what is stored about how it fares. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.sender.caps import Caps
from services.sender.circuit_record import CircuitPolicy, CircuitRecord

DEFAULT_CONNECTION_COUNT = 5
DEFAULT_WEIGHT = 1
_LONGEST_REST = timedelta(hours=25)  # a server that names its window names at most a day


class TlsMode(StrEnum):
    """How the connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


DEFAULT_PORTS = {TlsMode.TLS: 465, TlsMode.STARTTLS: 587, TlsMode.NONE: 25}


class CredentialKind(StrEnum):
    """Where the password comes from."""

    NONE = ""
    SEALED = "sealed"
    ENV = "env"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Credential:
    """User name, and the sealed password or the reference to it."""

    username: str = ""
    kind: CredentialKind = CredentialKind.NONE
    value: str = field(default="", repr=False)


_NO_AUTH, _NO_CAPS, _USUAL_POLICY, _NEW_CIRCUIT = Credential(), Caps(), CircuitPolicy(), CircuitRecord()


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it is stored; a snapshot, replaced as a whole when anything changes."""

    account_id: str
    name: str
    host: str
    port: int
    tls_mode: TlsMode = TlsMode.TLS
    credential: Credential = _NO_AUTH
    from_addresses: tuple[str, ...] = ()  # canonical: mailbox keys, or "@domain"
    max_connection_count: int = DEFAULT_CONNECTION_COUNT
    caps: Caps = _NO_CAPS
    weight: int = DEFAULT_WEIGHT
    disabled: bool = False
    ca_certificates: str = ""
    local_hostname: str = ""
    circuit_policy: CircuitPolicy = _USUAL_POLICY
    retry_policy: bytes = b""  # serialized mailer.v1.RetryPolicy: a run's own fields are laid over it
    circuit: CircuitRecord = _NEW_CIRCUIT
    held: bool = False
    hold_reason: str = ""
    barred: Mapping[str, str] = field(
        default_factory=dict
    )  # From addresses (mailbox keys) that its server refuses, and what it said
    rest_until: datetime | None = None
    rest_reason: str = ""
    version: int = 1
    create_time: datetime | None = None
    update_time: datetime | None = None

    @property
    def username(self) -> str:
        """Return the user name for AUTH; without a password there is no AUTH."""
        return self.credential.username

    @property
    def has_password(self) -> bool:
        """Say whether the account authenticates."""
        return self.credential.kind is not CredentialKind.NONE

    @property
    def connection_settings(self) -> tuple[object, ...]:
        """Return what an open connection depends on: when it differs, old connections are no good."""
        return (
            self.host,
            self.port,
            self.tls_mode,
            self.credential,
            self.ca_certificates,
            self.local_hostname,
        )

    def may_send_for(self, from_key: str) -> bool:
        """Say whether it may send for a From address, given as its mailbox key."""
        if not self.from_addresses:
            return True
        return from_key in self.from_addresses or f"@{from_key.rpartition('@')[2]}" in self.from_addresses

    def rests_until(self, now: datetime) -> datetime | None:
        """Return until when it rests because the server asked for it, None when it does not."""
        until = self.rest_until
        # A wall clock that was set back must not turn an hour of rest into days.
        if until is None or until <= now or until - now > _LONGEST_REST:
            return None
        return until
