"""One SMTP conversation, on aiosmtpd."""

import asyncio
import hmac
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as Peer

from mailer.clock import Clock
from mailer.inbox.journal import Event
from mailer.inbox.mailbox import Mailbox
from mailer.log import get_logger
from mailer.secrets import Secret

HOSTNAME = "inbox.test"
IDENTITY = "Mailer inbox"
LARGEST_MESSAGE = 64 * 1024 * 1024
FAILING = "421 4.3.2 This account fails on purpose"
# Seconds in which a client may take the goodbye before the connection is closed under it.
LINGER = 1.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Credentials:
    """Who may send through a listener."""

    user: str
    password: Secret

    def match(self, user: str, password: str) -> bool:
        """Say whether they are the right ones."""
        expected = f"{self.user}\0{self.password.reveal()}".encode()
        return hmac.compare_digest(f"{user}\0{password}".encode(), expected)


class Place(Protocol):
    """What a conversation needs to know about the listener that it belongs to."""

    name: str
    port: int
    mailbox: Mailbox
    clock: Clock
    credentials: Credentials | None
    tls: ssl.SSLContext | None
    delay: float

    @property
    def failing(self) -> bool:
        """Say whether the account fails at present."""
        ...


class Session(SMTP):
    """The protocol of one connection. aiosmtpd speaks; the hooks below decide and keep."""

    def __init__(self, place: Place, *, number: int, on_end: Callable[["Session"], None]) -> None:
        """Serve connection `number` of the place; `on_end` is called once when it has ended."""
        self._place = place
        self._number = number
        self._on_end = on_end
        self._spoken_to = False
        self._ending = False
        self._said_goodbye = False
        self.ended = asyncio.Event()
        super().__init__(
            _Hooks(place, number),
            hostname=HOSTNAME,
            ident=IDENTITY,
            data_size_limit=LARGEST_MESSAGE,
            enable_SMTPUTF8=True,
            tls_context=place.tls,
            # Whether AUTH is announced is decided in handle_EHLO: without TLS on loopback it is fine here.
            auth_require_tls=False,
            authenticator=_authenticate_with(place),
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection, except for the second start after STARTTLS."""
        if self.transport is None:
            self._note(Event.CONNECT)
        super().connection_made(transport)
        if self._ending:
            self.end()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(error)
        self._on_end(self)
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Note the moment of the client's first word."""
        if not self._spoken_to:
            self._spoken_to = True
            self._note(Event.FIRST_COMMAND)
        super().data_received(data)

    async def push(self, status: str | bytes) -> None:
        """Answer. After a 421 nothing more is said: the client reads it, and hangs up or is hung up on."""
        if self._said_goodbye:
            return
        text = status if isinstance(status, str) else status.decode("ascii", "replace")
        if text.startswith("220 ") and IDENTITY in text and self._place.failing:
            text = FAILING
        if text.startswith(("4", "5")):
            self._note(Event.REFUSED, reply=text)
        await super().push(text)
        if text.startswith("421"):
            self._say_goodbye()

    def end(self) -> None:
        """Close the connection, at once or as soon as it is there."""
        self._ending = True
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    def _say_goodbye(self) -> None:
        """Half-close: closing at once would reset what a pipelining client has not read yet."""
        self._said_goodbye = True
        if isinstance(self.transport, asyncio.WriteTransport):
            if self.transport.can_write_eof():
                self.transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def _note(self, event: Event, *, reply: str = "") -> None:
        place = self._place
        place.mailbox.note(event, listener=place.name, port=place.port, connection=self._number, reply=reply)


class _Hooks:
    """What aiosmtpd asks us; the names are its own."""

    def __init__(self, place: Place, number: int) -> None:
        self._place = place
        self._number = number

    async def handle_EHLO(
        self, server: SMTP, session: Peer, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce PIPELINING, and AUTH only where there is somebody to be."""
        session.host_name = hostname
        if self._place.credentials is None:
            responses = [line for line in responses if not line.startswith("250-AUTH")]
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_MAIL(
        self, server: SMTP, session: Peer, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse while the account fails, and those who have to say who they are."""
        if self._place.failing:
            return FAILING
        if self._place.credentials is not None and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_DATA(self, server: SMTP, session: Peer, envelope: Envelope) -> str:
        """Keep the message; whoever reads the 250 finds it on disk."""
        place = self._place
        entry = await asyncio.to_thread(
            place.mailbox.keep,
            envelope.original_content or b"",
            listener=place.name,
            port=place.port,
            connection=self._number,
            mail_from=envelope.mail_from or "",
            recipients=envelope.rcpt_tos,
        )
        if place.delay > 0:
            await place.clock.sleep(place.delay)
        return f"250 2.0.0 Kept as {entry.file}"

    async def handle_exception(self, error: Exception) -> str:
        """Answer for what went wrong here: a full disk is not the message's fault."""
        log.error("the inbox could not serve a command", error=repr(error))
        if isinstance(error, OSError):
            return "452 4.3.1 The inbox could not store the message"
        return "451 4.3.0 The inbox failed"


def _authenticate_with(place: Place) -> Callable[[SMTP, Peer, Envelope, str, Any], AuthResult]:
    def authenticate(server: SMTP, session: Peer, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        known = (
            place.credentials is not None
            and isinstance(data, LoginPassword)
            and place.credentials.match(data.login.decode(errors="replace"), data.password.decode(errors="replace"))
        )
        return AuthResult(success=known, handled=False)

    return authenticate
