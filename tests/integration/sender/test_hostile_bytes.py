"""Bytes that are no SMTP: trouble of the account or the path, never the recipient's, and the books stay readable."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from services.sender.account import TlsMode
from tests.fakes.certificates import certificate_for
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import sender_service
from tests.fakes.smtp_server import Raw, SmtpServer

PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]
BINARY = b"\xff\xfe\x80 no \xc3\r\n"


async def test_a_refusing_greeting_in_binary_holds_the_account_also_after_a_restart(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    server.on("GREETING", Raw(b"554 5.3.2 " + BINARY))
    async with sender_service(tmp_path, clock) as sender:
        account_id = await sender.add_account(server.port)
        await sender.send(*PEOPLE)
        await sender.until_account(lambda account: account.held)
        assert "554 5.3.2" in (await sender.account(account_id)).hold_reason
    async with sender_service(tmp_path, clock) as sender:
        assert (await sender.account(account_id)).held
        assert not (await sender.run()).counts.failed_count


async def test_a_password_refused_in_binary_holds_the_account_also_after_a_restart(
    tmp_path: Path, clock: FakeClock
) -> None:
    certificate = certificate_for("127.0.0.1")
    server = SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials={"ada": "another"})
    server.on("AUTH", Raw(b"535 5.7.8 " + BINARY))
    async with server:
        async with sender_service(tmp_path, clock) as sender:
            account_id = await sender.add_account(
                server.port,
                tls_mode=sender_pb2.TLS_MODE_TLS,
                ca_certificates=certificate.ca_pem,
                credential=sender_pb2.Credential(username="ada", password="wrong"),
            )
            await sender.send(*PEOPLE)
            await sender.later(600)
            account = await sender.until_account(lambda account: account.held)
            assert "535 5.7.8" in account.hold_reason
        async with sender_service(tmp_path, clock) as sender:
            assert (await sender.account(account_id)).held
            assert not (await sender.run()).counts.failed_count


@pytest.mark.parametrize("greeting", [b"-12 foo\r\n", b"000 foo\r\n", b"999 foo\r\n", b"\x00\xff\r\n"], ids=repr)
async def test_a_greeting_without_a_code_leaves_the_books_readable(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, greeting: bytes
) -> None:
    server.on("GREETING", Raw(greeting))
    async with sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port)
        await sender.send(*PEOPLE)
        await sender.until_account(lambda account: account.circuit.state == sender_pb2.Circuit.STATE_OPEN)
        assert {one.last_reply.code for one in (await sender.deliveries()).values()} == {0}
        server.reset()
        assert (await sender.finish()).counts.sent_count == len(PEOPLE)
