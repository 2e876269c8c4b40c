"""What happened in a conversation, and where."""

from dataclasses import dataclass
from enum import StrEnum

from services.sender.replies.reply import Reply


class Stage(StrEnum):
    """Where a conversation stands. Before the dot a message is certainly not accepted; after it, maybe."""

    CONNECT = "CONNECT"
    GREETING = "GREETING"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS_HANDSHAKE = "TLS"
    AUTH = "AUTH"
    IDLE = "IDLE"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "BODY"
    DOT = "DOT"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


class Event(StrEnum):
    """What can happen instead of a reply. The value is the sentence for people."""

    NO_SUCH_HOST = "the host name does not exist"
    DNS_FAILED = "the host name could not be looked up"
    REFUSED = "the connection was refused"
    UNREACHABLE = "the host cannot be reached"
    TIMEOUT = "the server did not answer in time"
    CONNECTION_LOST = "the connection was lost"
    TLS_NOT_OFFERED = "the server does not offer STARTTLS"
    TLS_FAILED = "the TLS handshake failed"
    CERTIFICATE_INVALID = "the certificate of the server is not valid"
    AUTH_NOT_OFFERED = "the server offers no way to log in that we speak"
    GARBAGE = "the server sent something that is no SMTP reply"
    UNSOLICITED = "the server sent a line that nothing had asked for"
    CANCELLED = "the conversation was broken off on our side"
    TOO_LARGE = "the message is larger than the server takes"
    SMTPUTF8_MISSING = "an address has a non-ASCII local part, and the server does not offer SMTPUTF8"
    BOOKS_UNAVAILABLE = "the database does not take entries"


@dataclass(frozen=True, slots=True)
class Incident:
    """What a conversation came to, good or bad: a stage, and either the reply or the event that decided."""

    stage: Stage
    reply: Reply | None = None
    event: Event | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        """Refuse an incident without, or with two, causes."""
        if (self.reply is None) == (self.event is None):
            raise ValueError("an incident has either a reply or an event")

    def __str__(self) -> str:
        """Return it for people: `RCPT: 550 5.1.1 no such user`."""
        cause = str(self.reply or self.event)
        return f"{self.stage}: {cause} ({self.detail})" if self.detail else f"{self.stage}: {cause}"
