"""The rows of the table about TLS and logging in, at work: no plain text, no password told, nobody hammered."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from services.sender.account import TlsMode
from tests.fakes.certificates import Certificate, certificate_for
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import DEFAULT, Script, Session, SmtpServer
from tests.fakes.smtp_steps import Answer

ADA = "ada@one.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]
CREDENTIALS = {"ada": "open sesame"}


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """Return a certificate that the accounts of these tests believe."""
    return certificate_for("127.0.0.1")


@pytest.fixture
async def server(certificate: Certificate) -> AsyncIterator[SmtpServer]:
    """Return a server with TLS that wants a password."""
    async with SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials=CREDENTIALS) as running:
        yield running


@asynccontextmanager
async def logging_in(
    folder: Path, clock: FakeClock, server: SmtpServer, certificate: Certificate, mode: TlsMode = TlsMode.TLS
) -> AsyncIterator[SenderService]:
    """Run a sender whose account wants TLS and has a password."""
    async with sender_service(folder, clock) as sender:
        await sender.add_account(
            server.port,
            tls_mode=sender_pb2.TlsMode.Value(f"TLS_MODE_{mode.name}"),
            ca_certificates=certificate.ca_pem,
            credential=sender_pb2.Credential(username="ada", password=CREDENTIALS["ada"]),
        )
        yield sender


@pytest.fixture
async def sender(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, certificate: Certificate
) -> AsyncIterator[SenderService]:
    """Return a sender with one account at the server, which lets it in."""
    async with logging_in(tmp_path, clock, server, certificate) as running:
        yield running


async def held(sender: SenderService) -> sender_pb2.Account:
    """Return the account once it is held, and everything it had begun is over: nobody has an attempt counted."""
    await sender.until_account(lambda account: account.held)
    await sender.until(lambda run: not run.counts.in_progress_count)
    outcomes = [await sender.outcomes(address) for address in await sender.deliveries()]
    assert {one for row in outcomes for one in row} == {"REQUEUED"}
    return (await sender.accounts())["main"]


async def let_the_circuit_close_at_once(sender: SenderService) -> None:
    """Let it rest no longer than a reply asks for."""
    account = (await sender.accounts())["main"]
    change = sender_pb2.UpdateAccountRequest(account=sender_pb2.Account(account_id=account.account_id))
    change.account.circuit_policy.rest.FromSeconds(1)
    change.update_mask.paths.append("circuit_policy.rest")
    await sender.stub.UpdateAccount(change, timeout=5)


async def attempt_count(sender: SenderService) -> int:
    """Return how often anything was tried for anybody."""
    return sum([len(await sender.attempts(address)) for address in await sender.deliveries()])


@pytest.mark.parametrize(
    ("offered", "wanted", "script"),
    [
        (TlsMode.NONE, TlsMode.STARTTLS, DEFAULT),
        (TlsMode.STARTTLS, TlsMode.STARTTLS, "454 4.7.0 TLS is not available"),
        (TlsMode.STARTTLS, TlsMode.STARTTLS, "502 5.5.1 what"),
        (TlsMode.NONE, TlsMode.TLS, DEFAULT),
    ],
    ids=["not offered", "refused for now", "refused for good", "no handshake"],
)
async def test_without_tls_the_account_is_held_after_three_tries_and_nothing_is_told_in_plain_text(
    tmp_path: Path, clock: FakeClock, certificate: Certificate, *, offered: TlsMode, wanted: TlsMode, script: Script
) -> None:
    server = SmtpServer(tls_mode=offered, certificate=certificate, credentials=CREDENTIALS)
    server.on("STARTTLS", script)
    async with server, logging_in(tmp_path, clock, server, certificate, wanted) as sender:
        await sender.send(*PEOPLE)
        assert "nothing is ever sent in plain text" in (await held(sender)).hold_reason
        assert server.connection_count == 3
        assert not [line for line in server.commands if line.startswith(("AUTH", "MAIL"))]


@pytest.mark.parametrize("mode", [TlsMode.TLS, TlsMode.STARTTLS])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda: certificate_for("mail.example.org"),
        lambda: certificate_for("127.0.0.1", expired_since=datetime(2020, 1, 1, tzinfo=UTC)),
    ],
    ids=["another name", "expired"],
)
async def test_a_wrong_certificate_holds_the_account_at_once_and_gets_no_password(
    tmp_path: Path, clock: FakeClock, mode: TlsMode, wrong: Callable[[], Certificate]
) -> None:
    certificate = wrong()
    server = SmtpServer(tls_mode=mode, certificate=certificate, credentials=CREDENTIALS)
    async with server, logging_in(tmp_path, clock, server, certificate, mode) as sender:
        await sender.send(*PEOPLE)
        assert "certificate" in (await held(sender)).hold_reason
        assert await attempt_count(sender) == 1
        assert server.login_count == 0


async def test_a_certificate_of_an_unknown_authority_holds_the_account_at_once(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    async with logging_in(tmp_path, clock, server, certificate_for("127.0.0.1")) as sender:
        await sender.send(*PEOPLE)
        assert "certificate" in (await held(sender)).hold_reason
        assert await attempt_count(sender) == 1
        assert server.login_count == 0


async def test_a_wrong_certificate_opens_the_circuit_too(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> None:
    async with logging_in(tmp_path, clock, server, certificate_for("127.0.0.1")) as sender:
        await sender.send(ADA)
        assert (await held(sender)).circuit.state == sender_pb2.Circuit.STATE_OPEN


async def test_without_ehlo_there_is_no_tls_and_no_login_so_the_account_is_held(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("EHLO", "502 5.5.1 what")
    await sender.send(*PEOPLE)
    assert "EHLO" in (await held(sender)).hold_reason
    assert server.connection_count == 1
    assert not [line for line in server.commands if line.startswith(("HELO", "AUTH"))]


async def test_a_refused_password_is_tried_once_more_after_a_minute_and_then_never_again(
    sender: SenderService, server: SmtpServer
) -> None:
    await let_the_circuit_close_at_once(sender)
    logins: list[float] = []

    def refuse(_: Session, __: str) -> Answer:
        logins.append(sender.clock.monotonic())
        return "535 5.7.8 bad credentials"

    server.on("AUTH", refuse)
    await sender.send(*PEOPLE)
    await sender.until_account(lambda account: account.circuit.state == sender_pb2.Circuit.STATE_OPEN)
    await sender.later(1800)
    assert "535 5.7.8 bad credentials" in (await held(sender)).hold_reason
    first, second = logins
    assert second - first >= 60


@pytest.mark.parametrize(
    "reply",
    [
        "534 5.7.9 the mechanism is too weak",
        "538 5.7.11 encryption is required",
        "530 5.7.0 say STARTTLS first",
        "432 4.7.12 a password transition is needed",
    ],
)
async def test_a_login_that_can_never_work_holds_the_account_at_once(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("AUTH", reply)
    await sender.send(*PEOPLE)
    account = await held(sender)
    assert reply in account.hold_reason
    assert account.circuit.state == sender_pb2.Circuit.STATE_OPEN
    assert server.login_count == 1


async def test_a_server_without_a_mechanism_that_we_speak_holds_the_account_at_once(
    sender: SenderService, server: SmtpServer
) -> None:
    server.mechanisms = ["XOAUTH2", "GSSAPI"]
    await sender.send(*PEOPLE)
    assert "XOAUTH2, GSSAPI" in (await held(sender)).hold_reason
    assert server.connection_count == 1


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        ("454 4.7.0 temporary authentication failure", 600),
        ("535 5.7.0 too many login attempts", 600),
        ("421 4.7.0 too many connections, try again later", 600),
        ("454 4.7.0 too many logins, try again in 1800 seconds", 1800),
    ],
)
async def test_too_many_logins_rest_the_account_and_are_no_failure(
    sender: SenderService, server: SmtpServer, reply: str, seconds: int
) -> None:
    server.on("AUTH", reply, times=1)
    await sender.send(*PEOPLE)
    account = await sender.until_account(lambda account: account.HasField("rest_until_time"))
    assert (account.held, account.circuit.failure_count) == (False, 0)
    await sender.later(seconds - 60)
    assert server.login_count == 1
    await sender.finish()
    assert sorted(mail.recipients[0] for mail in server.accepted) == PEOPLE
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}
