"""The rows of the table between transactions, at work: a line that nobody asked for answers nothing."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Accept, Drop, Raw, Script, SmtpServer, refuse

ADA, BOB = "ada@one.example", "bob@two.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
STRAY = [b"354 go on\r\n", b"250 2.0.0 ok\r\n", b"550 5.1.1 no\r\n", b"421 4.4.2 idle\r\n", b"25", b"\x00\xff\r\n"]


@pytest.mark.parametrize("line", STRAY, ids=repr)
async def test_an_unsolicited_line_closes_the_connection_before_the_next_mail(
    sender: SenderService, server: SmtpServer, line: bytes
) -> None:
    await sender.send(ADA)
    await sender.done()
    await server.write(line)
    await server.until(lambda: server.open_count == 0)
    server.on("DOT", "554 5.7.1 no")
    await sender.send(BOB)
    await sender.done()
    assert await sender.states() == {ADA: "SENT", BOB: "FAILED"}
    assert server.connection_count == 2
    assert len([line for line in server.commands if line.startswith("MAIL")]) == 2


@pytest.mark.parametrize("line", STRAY, ids=repr)
async def test_a_line_behind_the_answer_to_the_dot_answers_nothing_of_the_next_message(
    sender: SenderService, server: SmtpServer, line: bytes
) -> None:
    server.on("DOT", [Accept(), Raw(b"250 2.0.0 ok\r\n" + line)], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    await server.until(lambda: server.open_count == 0)
    await sender.send(BOB)
    await sender.done()
    assert await sender.states() == {ADA: "SENT", BOB: "SENT"}
    assert [mail.connection for mail in server.accepted] == [1, 2]
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}


@pytest.mark.parametrize("script", ["500 5.5.1 what", "421 4.3.2 bye", Drop(), Raw(b"\x00\xff\r\n")], ids=str)
async def test_an_error_on_rset_changes_no_result_and_costs_the_next_message_nothing(
    sender: SenderService, server: SmtpServer, script: Script
) -> None:
    server.on("RCPT", refuse(ADA))
    server.on("RSET", script)
    await sender.send(ADA)
    await sender.done()
    await sender.send(BOB)
    await sender.done()
    assert await sender.states() == {ADA: "FAILED", BOB: "SENT"}
    assert len(await sender.attempts(ADA)) == 1
    assert (await sender.deliveries())[BOB].retry_count == 0
    assert (await sender.accounts())["main"].circuit.failure_count == 0


@pytest.mark.parametrize("script", ["500 5.5.1 what", "421 4.3.2 bye", Drop(), Raw(b"\x00\xff\r\n")], ids=str)
async def test_an_error_on_quit_changes_nothing(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, script: Script
) -> None:
    server.on("QUIT", script)
    async with sender_service(tmp_path, clock, connection_messages=1) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA, BOB)
        await sender.done()
        await server.until(lambda: "QUIT" in server.commands)
        assert await sender.states() == {ADA: "SENT", BOB: "SENT"}
        assert (await sender.accounts())["main"].circuit.failure_count == 0
