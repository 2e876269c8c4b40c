"""Where an account's server is, how to log in there, and how long to wait for it."""

import re
from dataclasses import dataclass, field

from mailer.secrets import Secret
from services.sender.account import TlsMode


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait at each stage: RFC 5321 4.5.3.2, shorter where a submission server has no excuse.

    `dot` is the one that must not be shortened: giving up too early is what makes duplicates.
    """

    connect: float = 30
    greeting: float = 60
    """Together with the TLS handshake before it."""
    ehlo: float = 60
    starttls: float = 60
    auth: float = 60
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    write: float = 180
    dot: float = 600
    farewell: float = 5
    """For RSET, NOOP and QUIT: what they answer changes nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Everything that opening a connection to an account needs.

    `ca_certificates` (PEM) is trusted instead of the system's authorities. `local_hostname` is the name for EHLO;
    empty means the name of this machine. Raises ValueError for a password that would travel in plain text.
    """

    host: str
    port: int
    tls_mode: TlsMode = TlsMode.TLS
    username: str = ""
    password: Secret | None = field(default=None, repr=False)
    ca_certificates: str = field(default="", repr=False)
    local_hostname: str = ""

    def __post_init__(self) -> None:
        """Refuse to log in without TLS, and a name that would be another command."""
        if not re.fullmatch(r"[!-~]*", self.local_hostname):
            raise ValueError("the name for EHLO has to be printable ASCII without spaces")
        if self.needs_login and self.tls_mode is TlsMode.NONE:
            raise ValueError("an account without TLS cannot have a password")

    @property
    def needs_login(self) -> bool:
        """Say whether AUTH is needed."""
        return self.password is not None
