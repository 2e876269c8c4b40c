"""Messages that began before something went wrong: their success says nothing about what has happened since."""

import asyncio
from pathlib import Path

from mailer.v1 import sender_pb2
from services.sender.account import TlsMode
from tests.fakes.certificates import certificate_for
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import sender_service
from tests.fakes.smtp_server import SmtpServer, Until

ADA = "ada@one.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]


async def test_a_slow_success_of_an_old_connection_does_not_forgive_a_refused_password(
    tmp_path: Path, clock: FakeClock
) -> None:
    certificate = certificate_for("127.0.0.1")
    gate = asyncio.Event()
    server = SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials={"ada": "secret"})
    async with server, sender_service(tmp_path, clock) as sender:
        account_id = await sender.add_account(
            server.port,
            tls_mode=sender_pb2.TLS_MODE_TLS,
            ca_certificates=certificate.ca_pem,
            credential=sender_pb2.Credential(username="ada", password="secret"),
            max_connection_count=2,
        )
        await sender.send(PEOPLE[0])
        await sender.done()  # proves the password: from now on there may be two connections
        server.on("DOT", [Until(gate), "250 2.0.0 ok"], times=1)
        await sender.send(ADA)
        await server.until(lambda: sum(line == "DATA" for line in server.commands) == 2)
        server.on("AUTH", "535 5.7.8 bad credentials")
        await sender.send(*PEOPLE[1:])
        await sender.until_account(lambda account: account.circuit.state == sender_pb2.Circuit.STATE_OPEN)
        gate.set()
        await sender.until(lambda run: run.counts.sent_count == 2)
        await sender.later(600)
        assert (await sender.account(account_id)).held
        assert server.login_count == 3
