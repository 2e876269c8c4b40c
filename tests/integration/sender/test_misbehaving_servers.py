"""Servers that misbehave for a while: nothing is lost, nothing is doubled, and nobody is hammered."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from mailer.v1 import sender_pb2
from services.sender.account import TlsMode
from tests.fakes.certificates import certificate_for
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import DEFAULT, Accept, Drop, Hang, Raw, Session, SmtpServer, Until, greylist
from tests.fakes.smtp_steps import Answer

ADA, BOB = "ada@one.example", "bob@two.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)


def people(count: int) -> list[str]:
    return [f"p{number}@d{number % 7}.example" for number in range(count)]


async def until_open(sender: SenderService) -> None:
    """Let the circuit of the only account open: its server drops every connection."""
    await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED and not run.counts.in_progress_count)


async def let_hours_pass(sender: SenderService, condition: Callable[[], bool]) -> None:
    """Let time pass until the condition holds; fails after a real minute."""
    async with asyncio.timeout(60):
        while not condition():
            await sender.advance(10)
            await sender.tick()


async def finish(sender: SenderService) -> None:
    """Let time pass until every delivery is final."""
    async with asyncio.timeout(60):
        while (await sender.run()).state != sender_pb2.Run.STATE_DONE:
            await sender.advance(10)
            await sender.tick()


async def circuit(sender: SenderService) -> sender_pb2.Circuit:
    """Return the circuit of the only account."""
    (account,) = (await sender.stub.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5)).accounts
    return account.circuit


def recipients(server: SmtpServer) -> list[str]:
    return sorted(mail.recipients[0] for mail in server.accepted)


async def test_421_in_idle_costs_a_connection_and_no_message(sender: SenderService, server: SmtpServer) -> None:
    await sender.send(ADA)
    await sender.done()
    await server.say("421 4.4.2 idle for too long")
    await sender.tick()
    await sender.send(BOB)
    await sender.done()
    assert recipients(server) == [ADA, BOB]
    assert server.connection_count == 2
    assert (await sender.deliveries())[BOB].retry_count == 0


async def test_garbage_before_the_dot_is_no_acceptance(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("RCPT", Raw(b"\x00\xff HTTP/1.1 400\r\n"), times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.advance(400)
    await sender.done()
    assert recipients(server) == [ADA]


async def test_garbage_after_the_dot_is_unknown(sender: SenderService, server: SmtpServer) -> None:
    server.on("DOT", [Accept(), Raw(b"\x00\xff HTTP/1.1 200 OK\r\n")], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    assert await sender.states() == {ADA: "UNKNOWN"}
    assert recipients(server) == [ADA]


async def test_a_greylisting_server_gets_everything_at_its_second_try(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("RCPT", greylist())
    await sender.send(*people(40))
    run = await sender.until(lambda run: run.counts.deferred_count == 40)
    assert run.counts.failed_count == 0
    await sender.advance(400)
    await sender.done()
    assert recipients(server) == sorted(people(40))
    assert not (await sender.stub.ListSuppressions(sender_pb2.ListSuppressionsRequest(), timeout=5)).suppressions
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {1}


async def test_a_server_that_refuses_every_second_connection_gets_every_message_once(
    sender: SenderService, server: SmtpServer
) -> None:
    def every_second(session: Session, _: str) -> Answer:
        return "421 4.3.2 too busy" if session.connection % 2 else DEFAULT

    server.on("GREETING", every_second)
    await sender.send(*people(60))
    await finish(sender)
    assert recipients(server) == sorted(people(60))
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}


async def test_a_server_that_works_for_its_probe_only_is_left_alone_for_longer_and_longer(
    sender: SenderService, server: SmtpServer
) -> None:
    def first_of_each_five_minutes(_session: Session, _: str) -> Answer:
        window = int(sender.clock.monotonic() // 300)
        is_first = window not in seen
        seen.add(window)
        return DEFAULT if is_first else Drop()

    seen: set[int] = set()
    server.on("GREETING", Drop())
    server.on("DOT", "250 ok")
    await sender.send(*people(60))
    await until_open(sender)
    server.on("GREETING", first_of_each_five_minutes)
    server.on("DOT", ["250 ok", Drop()])  # one message per connection
    before = server.connection_count
    for _ in range(3600 // 10):
        await sender.advance(10)
        await sender.tick()
    # Five failures after each probe, and rests of 5, 10, 20 and 30 minutes: few connections in an hour.
    assert server.connection_count - before <= 40
    run = await sender.until(lambda run: run.counts.sent_count == len(server.accepted))
    assert run.counts.failed_count + run.counts.unknown_count == 0
    server.reset()
    await finish(sender)
    assert recipients(server) == sorted(people(60))


async def test_while_a_probe_hangs_nothing_else_is_tried_and_afterwards_it_rests_longer(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("GREETING", Drop())
    await sender.send(*people(50))
    await until_open(sender)
    server.on("GREETING", Hang())
    before = server.connection_count
    await let_hours_pass(sender, lambda: server.connection_count > before)
    assert (await circuit(sender)).state == sender_pb2.Circuit.STATE_HALF_OPEN
    for _ in range(15):
        await sender.advance(10)
        await sender.tick()
    assert server.connection_count == before + 1
    found = await circuit(sender)
    assert found.state == sender_pb2.Circuit.STATE_OPEN
    rest = found.circuit_breaker_until.ToDatetime(sender.clock.now().tzinfo) - sender.clock.now()
    assert 400 <= rest.total_seconds() <= 720


async def test_a_connection_that_hangs_does_not_keep_a_recovered_account_from_sending(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("GREETING", Drop())
    await sender.send(*people(50))
    await until_open(sender)
    server.on("GREETING", Hang(), times=1)
    server.on("GREETING", DEFAULT)
    await let_hours_pass(sender, lambda: len(server.accepted) >= 49)
    # The first probe hangs to this moment, and has one message.
    assert len(server.accepted) == 49
    server.drop_connections()
    await finish(sender)
    assert recipients(server) == sorted(people(50))


async def test_500_waiting_messages_meet_a_ramp_when_the_circuit_closes(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("GREETING", Drop())
    await sender.send(*people(500))
    await until_open(sender)
    seen: list[tuple[float, int]] = []

    def note(_session: Session, _: str) -> Answer:
        seen.append((sender.clock.monotonic(), server.open_count))
        return DEFAULT

    server.reset()
    server.on("MAIL", note)
    for _ in range(600):
        if seen:
            break
        await sender.advance(1)
        await sender.tick()
    await sender.done()
    assert recipients(server) == sorted(people(500))
    start = seen[0][0]
    for seconds, most in ((1, 1), (2, 2), (3, 4), (4, 8)):
        peak = max((count for at, count in seen if at - start < seconds), default=0)
        assert peak <= most, f"{peak} connections in the first {seconds} s"


async def test_a_wrong_password_is_tried_twice_at_most_and_burns_nobody(tmp_path: Path, clock: FakeClock) -> None:
    certificate = certificate_for("127.0.0.1")
    server = SmtpServer(tls_mode=TlsMode.TLS, certificate=certificate, credentials={"ada": "another"})
    async with server, sender_service(tmp_path, clock) as sender:
        await sender.add_account(
            server.port,
            tls_mode=sender_pb2.TLS_MODE_TLS,
            ca_certificates=certificate.ca_pem,
            credential=sender_pb2.Credential(username="ada", password="wrong"),
            max_connection_count=10,
        )
        await sender.send(*people(100))
        for _ in range(60):
            await sender.advance(30)
            await sender.tick()
        run = await sender.run()
        assert server.login_count == 2
        assert run.state == sender_pb2.Run.STATE_STALLED
        assert "held" in run.state_reason
        assert run.counts.pending_count == 100
        # A person corrects the password: everybody gets it, once.
        (account,) = (await sender.stub.ListAccounts(sender_pb2.ListAccountsRequest(), timeout=5)).accounts
        change = sender_pb2.UpdateAccountRequest(
            account=sender_pb2.Account(
                account_id=account.account_id, credential=sender_pb2.Credential(username="ada", password="another")
            )
        )
        change.update_mask.paths.append("credential")
        await sender.stub.UpdateAccount(change, timeout=5)
        await sender.stub.ReleaseAccount(sender_pb2.ReleaseAccountRequest(account_id=account.account_id), timeout=5)
        await finish(sender)
        assert recipients(server) == sorted(people(100))


async def test_a_suppression_reaches_a_message_that_is_on_its_way(tmp_path: Path, clock: FakeClock) -> None:
    """Bob's message is claimed, and waits for the one connection, which is at Ada's dot."""
    gate = asyncio.Event()
    async with SmtpServer() as server, sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port, max_connection_count=1)
        server.on("DOT", [Until(gate), "250 ok"], times=1)
        await sender.send(ADA, BOB)
        await sender.until(lambda run: run.counts.in_progress_count == 2)
        request = sender_pb2.AddSuppressionsRequest(request_id="s", addresses=[BOB], reason="unsubscribed")
        await sender.stub.AddSuppressions(request, timeout=5)
        gate.set()
        await sender.done()
        assert await sender.states() == {ADA: "SENT", BOB: "SUPPRESSED"}
        assert recipients(server) == [ADA]
