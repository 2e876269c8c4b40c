"""Opening a connection to an account: TLS, EHLO and AUTH with aiosmtplib; then the transport becomes ours."""

import asyncio
import base64
import socket
import ssl
from typing import Final, cast

import aiosmtplib

from services.sender.account import TlsMode
from services.sender.replies import Event, Incident, Stage
from services.sender.smtp.conversation import Conversation
from services.sender.smtp.dial import CannotDial, dial
from services.sender.smtp.endpoint import Endpoint, Timeouts
from services.sender.smtp.extensions import Extensions
from services.sender.smtp.failure import incident_of
from services.sender.smtp.trust import Trust

MECHANISMS: Final = ("plain", "login", "cram-md5")
"""Best first. Over TLS the plainest works with every way a server may store passwords; without TLS nobody logs in."""


class ConnectFailed(Exception):
    """No connection to the account: `incident` says at which stage, and why. Never contains the password."""

    def __init__(self, incident: Incident) -> None:
        """Take what happened."""
        super().__init__(str(incident))
        self.incident = incident


class Connector:
    """Opens connections. One for the whole process: it keeps the TLS contexts."""

    def __init__(self, timeouts: Timeouts | None = None) -> None:
        """Take how long to wait at each stage, here and in the conversations."""
        self._timeouts = timeouts or Timeouts()
        self._trust = Trust()
        self._own_name = ""

    async def connect(self, endpoint: Endpoint) -> Conversation:
        """Return a conversation that is logged in and ready for its first message. Raises ConnectFailed.

        AUTH is tried once, with one mechanism: each failure counts against the account at most providers.
        """
        opening = _Opening(endpoint, self._timeouts)
        try:
            if not endpoint.local_hostname and not self._own_name:
                self._own_name = await asyncio.to_thread(_own_name)
            return await opening.run(self._trust, endpoint.local_hostname or self._own_name)
        except ConnectFailed as failure:
            opening.abort()
            incident = failure.incident
        except CannotDial as failure:
            incident = failure.incident
        except (aiosmtplib.SMTPException, OSError) as error:
            opening.abort()
            incident = incident_of(error, stage=opening.stage, secrets=opening.secrets)
        except Exception as error:  # noqa: BLE001 (whatever a server can make us stumble over is the path's trouble)
            opening.abort()
            incident = Incident(opening.stage, event=Event.GARBAGE, detail=f"{type(error).__name__} while it was read")
        except BaseException:
            opening.abort()
            raise
        # Raised here, so that no traceback leads to a frame that knows the password.
        raise ConnectFailed(incident)


class _Opening:
    """One attempt to open a connection."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._socket: socket.socket | None = None
        self._client: aiosmtplib.SMTP | None = None
        self._transport: asyncio.BaseTransport | None = None
        self.stage = Stage.CONNECT
        self.secrets: list[str] = []

    async def run(self, trust: Trust, local_hostname: str) -> Conversation:
        """Go through all stages."""
        endpoint, timeouts = self._endpoint, self._timeouts
        context = await self._context(trust)
        self._socket = await dial(endpoint.host, endpoint.port, timeout=timeouts.connect)
        is_tls = endpoint.tls_mode is TlsMode.TLS
        self.stage = Stage.TLS_HANDSHAKE if is_tls else Stage.GREETING
        client = self._client = aiosmtplib.SMTP(
            hostname=endpoint.host,
            local_hostname=local_hostname,
            use_tls=is_tls,
            start_tls=False,  # None would be opportunistic: a password in plain text
            tls_context=context,
            # Its own timeouts lose a cancel now and then (asyncio.wait_for before Python 3.12); ours do not.
            timeout=None,
        )
        async with asyncio.timeout(timeouts.greeting):
            await client.connect(sock=self._socket)
        self._transport = client.transport
        await self._say_hello(client)
        if endpoint.tls_mode is TlsMode.STARTTLS:
            await self._start_tls(client)
        if endpoint.password is not None:
            async with asyncio.timeout(timeouts.auth):
                await self._log_in(client, endpoint.password.reveal())
        return self._take_over(client)

    def abort(self) -> None:
        """Close whatever is open, without another byte."""
        transport = self._transport or (self._client.transport if self._client else None)
        if transport is not None:
            cast("asyncio.Transport", transport).abort()
        elif self._socket is not None:
            self._socket.close()

    async def _context(self, trust: Trust) -> ssl.SSLContext | None:
        if self._endpoint.tls_mode is TlsMode.NONE:
            return None
        try:
            return await trust.context(self._endpoint.ca_certificates)
        except (ssl.SSLError, ValueError) as error:
            detail = f"the account's own CA certificates cannot be read: {error}"
            raise ConnectFailed(Incident(Stage.TLS_HANDSHAKE, event=Event.CERTIFICATE_INVALID, detail=detail)) from None

    async def _say_hello(self, client: aiosmtplib.SMTP) -> None:
        self.stage = Stage.EHLO
        async with asyncio.timeout(self._timeouts.ehlo):
            try:
                await client.ehlo()
            except aiosmtplib.SMTPHeloError as error:
                # Only EHLO tells of TLS and AUTH; who needs neither can do without.
                if not 500 <= error.code <= 599 or self._endpoint.tls_mode is not TlsMode.NONE:
                    raise
                await client.helo()

    async def _start_tls(self, client: aiosmtplib.SMTP) -> None:
        self.stage = Stage.STARTTLS
        if not client.supports_extension("starttls"):
            raise ConnectFailed(Incident(Stage.STARTTLS, event=Event.TLS_NOT_OFFERED))
        async with asyncio.timeout(self._timeouts.starttls):
            await client.starttls()
        self._transport = client.transport
        await self._say_hello(client)

    async def _log_in(self, client: aiosmtplib.SMTP, password: str) -> None:
        self.stage = Stage.AUTH
        username, offered = self._endpoint.username, client.server_auth_methods
        self.secrets = _forms(username, password)
        mechanism = next((name for name in MECHANISMS if name in offered), None)
        match mechanism:
            case "plain":
                await client.auth_plain(username, password)
            case "login":
                await client.auth_login(username, password)
            case "cram-md5":
                await client.auth_crammd5(username, password)
            case _:
                detail = f"it offers {', '.join(offered).upper() or 'none'}"
                raise ConnectFailed(Incident(Stage.AUTH, event=Event.AUTH_NOT_OFFERED, detail=detail))

    def _take_over(self, client: aiosmtplib.SMTP) -> Conversation:
        # No isinstance: the transports of uvloop are none of asyncio's classes.
        transport = cast("asyncio.Transport | None", client.transport)
        if transport is None or transport.is_closing():
            raise ConnectFailed(Incident(self.stage, event=Event.CONNECTION_LOST))
        # Bytes that aiosmtplib has read and not used belong to no command: a second reply, or an injected one.
        if getattr(client.protocol, "_buffer", b""):
            raise ConnectFailed(Incident(self.stage, event=Event.UNSOLICITED))
        extensions = Extensions.parse(client.esmtp_extensions)
        return Conversation.take_over(transport, extensions, self._timeouts)


def _forms(username: str, password: str) -> list[str]:
    """Return the password in every form in which a server could repeat it."""
    plain = f"\0{username}\0{password}"
    return [password, *(base64.b64encode(text.encode()).decode() for text in (password, plain))]


def _own_name() -> str:
    """Return the name of this machine as EHLO takes it."""
    name = socket.getfqdn()
    return name if name.isascii() and name.isprintable() and " " not in name and name else "localhost"
