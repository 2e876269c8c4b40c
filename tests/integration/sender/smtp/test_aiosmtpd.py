"""Against a real server that somebody else wrote."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, Session
from aiosmtpd.smtp import Envelope as ReceivedEnvelope

from mailer.secrets import Secret
from services.sender.account import TlsMode
from services.sender.smtp import Accepted, Connector, Endpoint, Envelope, NotAccepted
from tests.fakes.certificates import Certificate
from tests.integration.sender.smtp.conftest import PASSWORD

ADA = Envelope("news@example.org", ("ada@example.net",), size_bytes=100)
MESSAGE = b"Subject: hello\r\n\r\n.dot\r\n..two\r\n\r\nthe end\r\n"


class Mailbox:
    """Keeps what arrives; refuses nobody@."""

    def __init__(self) -> None:
        self.received: list[tuple[str | None, list[str], bytes | None]] = []

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: ReceivedEnvelope, address: str, ___: Any) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: ReceivedEnvelope) -> str:
        self.received.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.original_content))
        return "250 2.0.0 kept"


def allows(_: SMTP, __: Session, ___: ReceivedEnvelope, ____: str, login: LoginPassword) -> AuthResult:
    return AuthResult(success=login.password == PASSWORD.encode(), handled=False)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture(params=list(TlsMode), ids=str)
async def endpoint(
    request: pytest.FixtureRequest, mailbox: Mailbox, certificate: Certificate
) -> AsyncIterator[Endpoint]:
    """Return the way to an aiosmtpd server."""
    mode: TlsMode = request.param
    options: dict[str, Any] = {"hostname": "mail.test", "enable_SMTPUTF8": True}
    if mode is not TlsMode.NONE:
        # It does not know of the TLS that it does not start itself.
        options |= {"authenticator": allows, "auth_require_tls": mode is TlsMode.STARTTLS}
    if mode is TlsMode.STARTTLS:
        options |= {"tls_context": certificate.server, "require_starttls": True, "auth_required": True}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailbox, loop=loop, **options),
        "127.0.0.1",
        0,
        ssl=certificate.server if mode is TlsMode.TLS else None,
    )
    yield Endpoint(
        "127.0.0.1",
        server.sockets[0].getsockname()[1],
        tls_mode=mode,
        username="ada",
        password=None if mode is TlsMode.NONE else Secret(PASSWORD),
        ca_certificates=certificate.ca_pem,
        local_hostname="client.test",
    )
    server.close()


async def test_messages_arrive_and_refusals_are_told_apart(endpoint: Endpoint, mailbox: Mailbox) -> None:
    conversation = await Connector().connect(endpoint)
    nobody = Envelope("news@example.org", ("nobody@example.net",))
    for _ in range(3):
        assert isinstance(await conversation.send(ADA, MESSAGE), Accepted)
        refused = await conversation.begin(nobody, MESSAGE)
        assert isinstance(refused, NotAccepted)
        assert str(refused.incident) == "RCPT: 550 5.1.1 no such user"
    await conversation.quit()
    assert mailbox.received == [("news@example.org", ["ada@example.net"], MESSAGE)] * 3
