"""An SMTP server that does what a test tells it, at every stage, and remembers what it accepted.

    async with SmtpServer() as server:                        # accepts everything, on 127.0.0.1:server.port
        server.on("RCPT", "550 5.1.1 no such user")           # from now on
        server.on("DOT", "451 4.3.0 later", times=1)          # only the next time, then as before
        server.on("DOT", [Accept(), Drop()])                  # takes the message, and dies before it says so
        ...
        assert [mail.recipients for mail in server.accepted] == [("ada@example.org",)]

Stages: GREETING EHLO HELO STARTTLS AUTH MAIL RCPT DATA BODY DOT RSET NOOP QUIT. What can be done there:

    "550 no"          says so (lines separated by line feeds: "250-one\\n250 two"); at DOT, a 2xx accepts
    DEFAULT           does what it would do anyway
    Raw(b"...")       writes these bytes, whatever they are
    Trickle("250 ok") says so, one byte per packet
    Accept()          keeps the message as accepted, and says nothing yet (DOT)
    Early("552 no", after_bytes=10)  says so as soon as that much of the body has come (BODY)
    Drop(), Reset()   closes the connection, politely or not
    Hang()            does nothing more, for ever
    Until(event)      waits for an asyncio.Event
    [a, b, c]         one after the other
    function          called with the session and the argument of the command; returns one of these

A message is in `accepted` before its 250 is on the wire: this server is the judge of what was delivered.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from services.sender.account import TlsMode
from tests.fakes.certificates import Certificate
from tests.fakes.smtp_connection import Closed, Connection, path_of, wire_form
from tests.fakes.smtp_steps import (
    DEFAULT,
    Accept,
    Answer,
    Drop,
    Early,
    Hang,
    Mail,
    Raw,
    Reset,
    Script,
    Session,
    Trickle,
    Until,
)

__all__ = [
    "DEFAULT",
    "EXTENSIONS",
    "Accept",
    "Drop",
    "Early",
    "Hang",
    "Mail",
    "Raw",
    "Reset",
    "Script",
    "Session",
    "SmtpServer",
    "Trickle",
    "Until",
    "greylist",
    "refuse",
]

EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")


class SmtpServer:
    """The server. Everything it counts can be read at any time."""

    def __init__(
        self,
        *,
        tls_mode: TlsMode = TlsMode.NONE,
        certificate: Certificate | None = None,
        credentials: dict[str, str] | None = None,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN", "CRAM-MD5"),
        extensions: Sequence[str] = EXTENSIONS,
        data_without_recipients: bool = False,
    ) -> None:
        """Choose what the server is like.

        AUTH is offered when there are `credentials` (user name to password). `data_without_recipients` answers DATA
        with 354 even when no recipient was accepted, as RFC 2920 allows.
        """
        self.tls_mode = tls_mode
        self.extensions: Sequence[str] = tuple(extensions)
        self.mechanisms: Sequence[str] = tuple(mechanisms)
        self.certificate = certificate
        self.credentials: Mapping[str, str] = credentials or {}
        self.data_without_recipients = data_without_recipients
        self.port = 0
        self.accepted: list[Mail] = []
        self.commands: list[str] = []
        self.connection_count = 0
        self.login_count = 0
        """Attempts, good and bad."""
        self.open_count = 0
        self.peak_count = 0
        """Most connections that were open at the same time."""
        self._scripts: dict[str, Script] = {}
        self._once: dict[str, list[Script]] = defaultdict(list)
        self._connections: dict[int, Connection] = {}
        self._closing: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port of 127.0.0.1."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the port and all connections."""
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen; a port given makes it possible to come back after `stop`."""
        is_tls = self.tls_mode is TlsMode.TLS
        context = self.certificate.server if is_tls and self.certificate else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and all connections; what was counted stays."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._closing:
            connection.abort()
        self._closing.clear()

    def on(self, stage: str, script: Script, *, times: int | None = None) -> None:
        """Say what happens at the stage: from now on, or the next `times` times (queued behind earlier ones)."""
        if times is None:
            self._scripts[stage] = script
        else:
            self._once[stage].extend([script] * times)

    def reset(self) -> None:
        """Forget all scripts: everything is accepted again."""
        self._scripts.clear()
        self._once.clear()

    async def say(self, text: str) -> None:
        """Say something on every open connection that nobody has asked for."""
        await self.write(wire_form(text))

    async def write(self, data: bytes) -> None:
        """Write bytes to every open connection."""
        for connection in list(self._connections.values()):
            await connection.write(data)

    def drop_connections(self) -> None:
        """Close every open connection."""
        for connection in list(self._connections.values()):
            connection.drop()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at whenever something has happened here."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def received(self, count: int = 1) -> list[Mail]:
        """Return the accepted messages once there are that many."""
        await self.until(lambda: len(self.accepted) >= count)
        return self.accepted

    def mails_to(self, address: str) -> list[Mail]:
        """Return the messages accepted for the address."""
        return [mail for mail in self.accepted if address in mail.recipients]

    def changed(self) -> None:
        """Wake whoever waits for a condition."""
        self._changed.set()

    def script_for(self, stage: str) -> Script:
        """Return what happens at the stage now."""
        once = self._once[stage]
        return once.pop(0) if once else self._scripts.get(stage, DEFAULT)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connection_count += 1
        self.open_count += 1
        self.peak_count = max(self.peak_count, self.open_count)
        number = self.connection_count
        session = Session(number, is_secure=self.tls_mode is TlsMode.TLS)
        connection = self._connections[number] = Connection(self, session, reader, writer)
        self.changed()
        try:
            with suppress(Closed, ConnectionError, ssl.SSLError):
                await connection.run()
        except asyncio.CancelledError:
            pass  # only `stop` cancels; asyncio's streams would print it
        finally:
            connection.drop()
            self._closing.append(connection)
            del self._connections[number]
            self.open_count -= 1
            self._tasks.discard(task)
            self.changed()


def greylist(reply: str = "451 4.7.1 Greylisted, try again in 300 seconds") -> Script:
    """Return a script for RCPT that refuses every address the first time."""
    seen: set[str] = set()

    def answer(_: Session, argument: str) -> Answer:
        address = path_of(argument)
        if address in seen:
            return DEFAULT
        seen.add(address)
        return reply

    return answer


def refuse(*addresses: str, reply: str = "550 5.1.1 no such user") -> Script:
    """Return a script for RCPT that refuses these addresses and takes the others."""
    return lambda _, argument: reply if path_of(argument) in addresses else DEFAULT
