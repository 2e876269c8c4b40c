"""VerifyAccount against real servers: how far it comes, and what it says about it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mailer.v1 import sender_pb2
from services.sender.account import TlsMode
from tests.fakes.account_service import AccountService, account_service
from tests.fakes.certificates import certificate_for
from tests.fakes.smtp_server import Drop, Hang, SmtpServer

LOGIN = sender_pb2.Credential(username="ada", password="right")
MODES = {TlsMode.TLS: sender_pb2.TLS_MODE_TLS, TlsMode.STARTTLS: sender_pb2.TLS_MODE_STARTTLS}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[AccountService]:
    async with account_service(tmp_path) as running:
        yield running


async def verify(service: AccountService, port: int, **more: Any) -> sender_pb2.VerifyAccountResponse:
    settings: dict[str, Any] = {"name": "main", "host": "127.0.0.1", "port": port, "tls_mode": sender_pb2.TLS_MODE_NONE}
    request = sender_pb2.CreateAccountRequest(request_id="r", account=sender_pb2.Account(**(settings | more)))
    account_id = (await service.stub.CreateAccount(request, timeout=5)).account.account_id
    return await service.stub.VerifyAccount(sender_pb2.VerifyAccountRequest(account_id=account_id), timeout=10)


async def test_a_server_that_lets_us_in_is_verified_and_gets_no_message(service: AccountService) -> None:
    async with SmtpServer() as server:
        answer = await verify(service, server.port)
        assert answer.verified
        assert not answer.failed_stage
        assert "PIPELINING" in answer.extensions
        assert answer.duration.ToMicroseconds() > 0
        await server.until(lambda: server.open_count == 0)
        assert [command.split()[0] for command in server.commands] == ["EHLO", "NOOP", "QUIT"]
        assert server.accepted == []


@pytest.mark.parametrize("mode", list(MODES))
async def test_tls_and_login_are_tried_for_real(service: AccountService, mode: TlsMode) -> None:
    certificate = certificate_for("127.0.0.1")
    server = SmtpServer(tls_mode=mode, certificate=certificate, credentials={"ada": "right"})
    async with server:
        answer = await verify(
            service, server.port, tls_mode=MODES[mode], ca_certificates=certificate.ca_pem, credential=LOGIN
        )
    assert answer.verified, answer
    assert answer.tls_version == "TLSv1.3"
    assert server.login_count == 1


async def test_a_wrong_password_is_tried_once_and_explained(service: AccountService) -> None:
    certificate = certificate_for("127.0.0.1")
    server = SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials={"ada": "other"})
    async with server:
        answer = await verify(
            service,
            server.port,
            tls_mode=sender_pb2.TLS_MODE_TLS,
            ca_certificates=certificate.ca_pem,
            credential=LOGIN,
        )
    assert (answer.verified, answer.failed_stage, answer.reply.code) == (False, "AUTH", 535)
    assert "password" in answer.description
    assert "right" not in str(answer)
    assert server.login_count == 1


@pytest.mark.parametrize(
    ("name", "expired"), [("mail.example.org", None), ("127.0.0.1", datetime(2020, 1, 1, tzinfo=UTC))]
)
async def test_a_certificate_that_cannot_be_trusted_gets_no_password(
    service: AccountService, name: str, expired: datetime | None
) -> None:
    certificate = certificate_for(name, expired_since=expired)
    server = SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials={"ada": "right"})
    async with server:
        answer = await verify(
            service,
            server.port,
            tls_mode=sender_pb2.TLS_MODE_TLS,
            ca_certificates=certificate.ca_pem,
            credential=LOGIN,
        )
    assert (answer.verified, answer.failed_stage) == (False, "TLS")
    assert "certificate" in answer.description
    assert server.login_count == 0


async def test_starttls_that_is_stripped_gets_no_password(service: AccountService) -> None:
    async with SmtpServer(credentials={"ada": "right"}) as server:
        answer = await verify(service, server.port, tls_mode=sender_pb2.TLS_MODE_STARTTLS, credential=LOGIN)
    assert (answer.verified, answer.failed_stage) == (False, "STARTTLS")
    assert server.login_count == 0


@pytest.mark.parametrize(
    ("stage", "script", "failed"),
    [
        ("GREETING", "554 go away", "GREETING"),
        ("GREETING", Drop(), "GREETING"),
        ("GREETING", Hang(), "GREETING"),
        ("NOOP", "421 shutting down", "NOOP"),
        ("NOOP", Drop(), "NOOP"),
    ],
)
async def test_a_server_that_refuses_is_an_answer_with_the_stage(
    service: AccountService, stage: str, script: Any, failed: str
) -> None:
    async with SmtpServer() as server:
        server.on(stage, script)
        answer = await verify(service, server.port)
    assert (answer.verified, answer.failed_stage) == (False, failed)
    assert len(answer.description) > 10
    if isinstance(script, str):
        assert answer.reply.code == int(script[:3])


async def test_nobody_at_home(service: AccountService) -> None:
    async with SmtpServer() as server:
        port = server.port
    answer = await verify(service, port)
    assert (answer.verified, answer.failed_stage) == (False, "CONNECT")


async def test_a_password_that_is_gone_is_explained(service: AccountService) -> None:
    service.variables["MAILER_SECRET_X"] = "x"
    credential = sender_pb2.Credential(username="ada", password_env="MAILER_SECRET_X")
    request = sender_pb2.CreateAccountRequest(
        request_id="r", account=sender_pb2.Account(name="main", host="127.0.0.1", port=1, credential=credential)
    )
    account_id = (await service.stub.CreateAccount(request, timeout=5)).account.account_id
    service.variables.clear()
    answer = await service.stub.VerifyAccount(sender_pb2.VerifyAccountRequest(account_id=account_id), timeout=5)
    assert (answer.verified, answer.failed_stage) == (False, "AUTH")
    assert "MAILER_SECRET_X is not set" in answer.description


async def test_a_check_changes_neither_circuit_nor_hold(service: AccountService) -> None:
    async with SmtpServer() as server:
        server.on("GREETING", "554 go away")
        await verify(service, server.port)
    accounts = (await service.stub.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5)).accounts
    assert [(one.held, one.circuit.failure_count, one.circuit.last_failure) for one in accounts] == [(False, 0, "")]
