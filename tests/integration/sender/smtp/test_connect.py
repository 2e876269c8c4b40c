"""Opening connections: what works, what is refused, and that a password never goes where it should not."""

import asyncio
import base64
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mailer.secrets import Secret
from services.sender.account import TlsMode
from services.sender.replies import Action, Breaker, Event, History, Hold, Incident, Stage, judge
from services.sender.smtp import Accepted, ConnectFailed, Connector, Endpoint, Envelope, Timeouts
from services.sender.smtp.trust import Trust
from tests.fakes.certificates import Certificate, certificate_for
from tests.fakes.smtp_server import Drop, Hang, Raw, Script, SmtpServer, Until
from tests.integration.sender.smtp.conftest import PASSWORD, Connect, endpoint_of

ADA = Envelope("news@example.org", ("ada@example.net",))
SHORT = Timeouts(connect=0.05, greeting=0.05, ehlo=0.05, starttls=0.05, auth=0.05)


async def failure(connecting: Awaitable[object]) -> Incident:
    with pytest.raises(ConnectFailed) as raised:
        await connecting
    assert PASSWORD not in str(raised.value)
    return raised.value.incident


@pytest.fixture
async def tls_server(certificate: Certificate) -> Any:
    """A server that wants STARTTLS and a password."""
    async with SmtpServer(tls_mode=TlsMode.STARTTLS, certificate=certificate, credentials={"ada": PASSWORD}) as running:
        yield running


async def test_a_connection_is_ready_for_messages(any_server: SmtpServer, connect: Connect) -> None:
    conversation = await connect(any_server)
    assert conversation.is_usable
    assert conversation.extensions.has_pipelining
    assert conversation.extensions.size_limit == 10_485_760
    assert conversation.tls_version == ("" if any_server.tls_mode is TlsMode.NONE else "TLSv1.3")
    assert "EHLO client.test" in any_server.commands
    await conversation.send(ADA, b"hello\r\n")
    assert any_server.accepted[0].username == next(iter(any_server.credentials), "")
    assert any_server.login_count == len(any_server.credentials)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_each_mechanism_logs_in_with_one_attempt(
    tls_server: SmtpServer, connect: Connect, mechanism: str
) -> None:
    tls_server.mechanisms = ["XOAUTH2", mechanism]
    conversation = await connect(tls_server)
    await conversation.send(ADA, b"hello\r\n")
    assert (tls_server.accepted[0].username, tls_server.login_count) == ("ada", 1)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
async def test_a_wrong_password_is_tried_once(tls_server: SmtpServer, connect: Connect, mechanism: str) -> None:
    tls_server.mechanisms = [mechanism, "PLAIN", "LOGIN", "CRAM-MD5"]
    incident = await failure(connect(tls_server, password=Secret("wrong")))
    assert str(incident) == "AUTH: 535 5.7.8 bad credentials"
    assert tls_server.login_count == 1
    await tls_server.until(lambda: tls_server.open_count == 0)


async def test_a_server_that_repeats_the_password_does_not_make_us_tell_it(
    tls_server: SmtpServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = base64.b64encode(f"\0ada\0{PASSWORD}".encode()).decode()
    tls_server.on("AUTH", f"535-5.7.8 AUTH PLAIN {token.upper()}\n535-5.7.8 {token}\n535 5.7.8 is it {PASSWORD}?")
    with pytest.raises(ConnectFailed) as raised:
        await connect(tls_server)
    ours = [
        frame for frame, _ in traceback.walk_tb(raised.value.__traceback__) if "services" in frame.f_code.co_filename
    ]
    assert ours
    seen = [str(raised.value), repr(raised.value.incident), caplog.text, *(repr(frame.f_locals) for frame in ours)]
    for secret in (PASSWORD, token):
        assert not any(secret.lower() in text.lower() for text in seen)
    assert raised.value.__context__ is None


async def test_an_endpoint_does_not_print_its_password() -> None:
    assert PASSWORD not in repr(Endpoint("127.0.0.1", 465, username="ada", password=Secret(PASSWORD)))


async def test_a_password_without_tls_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match="without TLS"):
        Endpoint("127.0.0.1", 25, tls_mode=TlsMode.NONE, username="ada", password=Secret(PASSWORD))


async def test_a_name_for_ehlo_cannot_be_another_command() -> None:
    with pytest.raises(ValueError, match="EHLO"):
        Endpoint("127.0.0.1", 25, tls_mode=TlsMode.NONE, local_hostname="a\r\nMAIL FROM:<>")


async def test_a_stripped_starttls_ends_it_with_the_password_untold(server: SmtpServer, connect: Connect) -> None:
    server.extensions = ["PIPELINING", "AUTH PLAIN LOGIN"]
    incident = await failure(connect(server, tls_mode=TlsMode.STARTTLS, username="ada", password=Secret(PASSWORD)))
    assert incident == Incident(Stage.STARTTLS, event=Event.TLS_NOT_OFFERED)
    assert [line.split()[0] for line in server.commands] == ["EHLO"]
    verdict = judge(incident, history={"STARTTLS missing": History(count=2)})
    assert (verdict.action, verdict.hold) == (Action.REQUEUE, Hold.ACCOUNT)


@pytest.mark.parametrize("reply", ["454 4.7.0 TLS not available", "502 5.5.1 what"])
async def test_a_refused_starttls_ends_it(tls_server: SmtpServer, connect: Connect, reply: str) -> None:
    tls_server.on("STARTTLS", reply)
    assert str(await failure(connect(tls_server))) == f"STARTTLS: {reply}"
    assert tls_server.login_count == 0


async def test_bytes_injected_before_the_handshake_are_not_taken_for_answers(
    tls_server: SmtpServer, connect: Connect
) -> None:
    tls_server.on("STARTTLS", Raw(b"220 ready\r\n250-evil\r\n250 AUTH XEVIL\r\n"))
    conversation = await connect(tls_server)
    assert "XEVIL" not in conversation.extensions.keywords["AUTH"]
    assert isinstance(await conversation.send(ADA, b"hello\r\n"), Accepted)


WRONG: dict[str, Callable[[], Certificate]] = {
    "another name": lambda: certificate_for("mail.example.org"),
    "expired": lambda: certificate_for("127.0.0.1", expired_since=datetime(2020, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("tls_mode", [TlsMode.TLS, TlsMode.STARTTLS])
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_certificate_holds_the_account_and_gets_no_password(
    connect: Connect, tls_mode: TlsMode, wrong: str
) -> None:
    async with SmtpServer(tls_mode=tls_mode, certificate=WRONG[wrong](), credentials={"ada": PASSWORD}) as server:
        incident = await failure(connect(server))
        assert (incident.stage, incident.event) == (Stage.TLS_HANDSHAKE, Event.CERTIFICATE_INVALID)
        assert incident.detail
        assert (judge(incident).hold, judge(incident).breaker) == (Hold.ACCOUNT, Breaker.TRIP)
        assert server.login_count == 0
        await server.until(lambda: server.open_count == 0)


@pytest.mark.parametrize("tls_mode", [TlsMode.TLS, TlsMode.STARTTLS])
async def test_a_certificate_of_an_unknown_authority_is_not_believed(
    certificate: Certificate, connect: Connect, tls_mode: TlsMode
) -> None:
    async with SmtpServer(tls_mode=tls_mode, certificate=certificate, credentials={"ada": PASSWORD}) as server:
        for others in ["", certificate_for("127.0.0.1").ca_pem]:
            incident = await failure(connect(server, ca_certificates=others))
            assert incident.event is Event.CERTIFICATE_INVALID
        assert server.login_count == 0


async def test_authorities_that_cannot_be_read_hold_the_account(tls_server: SmtpServer, connect: Connect) -> None:
    incident = await failure(connect(tls_server, ca_certificates="no PEM at all"))
    assert incident.event is Event.CERTIFICATE_INVALID
    assert "cannot be read" in incident.detail
    assert tls_server.connection_count == 0


async def test_tls_with_a_server_that_does_not_speak_it_fails(server: SmtpServer, connect: Connect) -> None:
    incident = await failure(connect(server, tls_mode=TlsMode.TLS))
    assert (incident.stage, incident.event) == (Stage.TLS_HANDSHAKE, Event.TLS_FAILED)


async def test_a_handshake_that_hangs_is_left_after_its_time(connect: Connect) -> None:
    async with SmtpServer() as server:
        server.on("GREETING", Hang())
        incident = await failure(connect(server, tls_mode=TlsMode.TLS, timeouts=SHORT))
        assert incident == Incident(Stage.TLS_HANDSHAKE, event=Event.TIMEOUT)
        await server.until(lambda: server.connection_count == 1)


OPENING: list[tuple[str, Script, str]] = [
    ("GREETING", "421 4.3.2 too busy", "GREETING: 421 4.3.2 too busy"),
    ("GREETING", "450 later", "GREETING: 450 later"),
    ("GREETING", "554-go\n554 away", "GREETING: 554 go away"),
    ("GREETING", Drop(), "GREETING: the connection was lost"),
    ("GREETING", Raw(b"hello\r\n"), "GREETING: the server sent something that is no SMTP reply"),
    ("GREETING", Hang(), "GREETING: the server did not answer in time"),
    ("EHLO", "421 4.3.2 too busy", "EHLO: 421 4.3.2 too busy"),
    ("EHLO", "502 5.5.1 what", "EHLO: 502 5.5.1 what"),
    ("EHLO", Drop(), "EHLO: the connection was lost"),
    ("EHLO", Hang(), "EHLO: the server did not answer in time"),
    ("STARTTLS", Drop(), "STARTTLS: the connection was lost"),
    ("STARTTLS", Hang(), "STARTTLS: the server did not answer in time"),
    ("AUTH", "454 4.7.0 too many logins", "AUTH: 454 4.7.0 too many logins"),
    ("AUTH", "534 5.7.9 too weak", "AUTH: 534 5.7.9 too weak"),
    ("AUTH", "421 4.3.2 bye", "AUTH: 421 4.3.2 bye"),
    ("AUTH", Drop(), "AUTH: the connection was lost"),
    ("AUTH", Hang(), "AUTH: the server did not answer in time"),
    ("AUTH", "235 2.7.0 fine\n250 and more", "AUTH: the server sent a line that nothing had asked for"),
]


@pytest.mark.parametrize(("stage", "script", "told"), OPENING, ids=[f"{stage} {told}" for stage, _, told in OPENING])
async def test_trouble_while_connecting_says_where_and_why_and_leaves_nothing_open(
    tls_server: SmtpServer, connect: Connect, stage: str, script: Script, told: str
) -> None:
    tls_server.on(stage, script)
    incident = await failure(connect(tls_server, timeouts=SHORT if script == Hang() else None))
    assert str(incident).startswith(told)
    assert judge(incident).action is Action.REQUEUE


async def test_helo_is_enough_for_an_account_without_tls_and_password(server: SmtpServer, connect: Connect) -> None:
    server.on("EHLO", "502 5.5.1 what")
    conversation = await connect(server)
    assert not conversation.extensions.has_pipelining
    assert isinstance(await conversation.send(ADA, b"hello\r\n"), Accepted)


async def test_a_server_without_a_way_to_log_in_holds_the_account(tls_server: SmtpServer, connect: Connect) -> None:
    tls_server.mechanisms = ["XOAUTH2", "GSSAPI"]
    incident = await failure(connect(tls_server))
    assert (incident.event, incident.detail) == (Event.AUTH_NOT_OFFERED, "it offers XOAUTH2, GSSAPI")
    assert judge(incident).hold is Hold.ACCOUNT


async def test_a_port_that_nobody_listens_on_refuses(server: SmtpServer, connect: Connect) -> None:
    await server.stop()
    assert (await failure(connect(server))).event is Event.REFUSED


@pytest.mark.parametrize(
    ("number", "event"),
    [
        (socket.EAI_NONAME, Event.NO_SUCH_HOST),
        (socket.EAI_NODATA, Event.NO_SUCH_HOST),
        (socket.EAI_AGAIN, Event.DNS_FAILED),
        (socket.EAI_FAIL, Event.DNS_FAILED),
    ],
)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_name_that_does_not_exist_is_told_from_a_resolver_that_fails(
    server: SmtpServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, number: int, event: Event
) -> None:
    async def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    incident = await failure(connect(server, host="mail.example.org"))
    assert incident == Incident(Stage.CONNECT, event=event, detail="mail.example.org")


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_resolver_that_hangs_is_left_after_its_time(
    server: SmtpServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(*_: object, **__: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    assert (await failure(connect(server, timeouts=SHORT))).event is Event.DNS_FAILED


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_next_address_is_tried_where_one_does_not_answer(
    server: SmtpServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect_socket = loop.sock_connect

    async def look_up(_: str, port: int, **__: object) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.3", 1)), (*kind, ("127.0.0.1", port))]

    async def connect_some(connection: socket.socket, address: Any) -> None:
        if address[0] == "127.0.0.2":
            await loop.create_future()
        await connect_socket(connection, address)

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    monkeypatch.setattr(loop, "sock_connect", connect_some)
    assert (await connect(server, timeouts=Timeouts(connect=0.3))).is_usable


async def test_a_host_name_that_is_none_does_not_exist(server: SmtpServer, connect: Connect) -> None:
    incident = await failure(connect(server, host="a" * 64 + ".example.org"))
    assert incident.event in {Event.NO_SUCH_HOST, Event.DNS_FAILED}


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "STARTTLS", "AUTH"])
async def test_a_cancelled_connect_leaves_nothing_open(tls_server: SmtpServer, connect: Connect, stage: str) -> None:
    tls_server.on(stage, [Until(gone := asyncio.Event()), Drop()])
    connecting = asyncio.ensure_future(connect(tls_server))
    await tls_server.until(
        lambda: (
            tls_server.connection_count == 1
            and (stage == "GREETING" or any(line.startswith(stage) for line in tls_server.commands))
        )
    )
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    gone.set()
    await tls_server.until(lambda: tls_server.open_count == 0)


async def test_connections_of_one_authority_share_its_context() -> None:
    trust, pem = Trust(), certificate_for("127.0.0.1").ca_pem
    assert await trust.context(pem) is await trust.context(pem)
    assert await trust.context(pem) is not await trust.context("")


async def test_the_machine_s_own_name_is_used_where_none_is_given(server: SmtpServer, connect: Connect) -> None:
    await connect(server, local_hostname="")
    assert server.commands[0].startswith("EHLO ")
    assert server.commands[0] != "EHLO client.test"


async def test_many_connections_at_once_are_all_counted(any_server: SmtpServer) -> None:
    connector, endpoint = Connector(), endpoint_of(any_server)
    conversations = await asyncio.gather(*(connector.connect(endpoint) for _ in range(20)))
    assert (any_server.connection_count, any_server.peak_count) == (20, 20)
    await asyncio.gather(*(conversation.quit() for conversation in conversations))
    await any_server.until(lambda: any_server.open_count == 0)
