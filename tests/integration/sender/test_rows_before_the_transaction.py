"""The rows of the table before the first MAIL, at work: trouble there is ours, and costs no recipient an attempt."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Drop, Script, SmtpServer

ADA = "ada@one.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]
OPEN = sender_pb2.Circuit.STATE_OPEN


async def held(sender: SenderService) -> sender_pb2.Account:
    """Return the account once it is held, and everything it had begun is over."""
    await sender.until_account(lambda account: account.held)
    await sender.until(lambda run: not run.counts.in_progress_count)
    return (await sender.accounts())["main"]


async def nobody_counted(sender: SenderService) -> bool:
    """Say whether every attempt so far was put back without being counted."""
    outcomes = [await sender.outcomes(address) for address in await sender.deliveries()]
    return {one for row in outcomes for one in row} == {"REQUEUED"}


@pytest.mark.parametrize(
    ("stage", "script"),
    [
        ("GREETING", Drop()),
        ("GREETING", "421 4.3.2 too busy"),
        ("GREETING", "450 4.3.2 later"),
        ("EHLO", "421 4.3.2 too busy"),
        ("EHLO", Drop()),
    ],
    ids=str,
)
async def test_a_path_that_fails_opens_the_circuit_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, stage: str, script: Script
) -> None:
    server.on(stage, script)
    await sender.send(*PEOPLE)
    account = await sender.until_account(lambda account: account.circuit.state == OPEN)
    assert server.connection_count == 5
    assert not account.held
    assert await nobody_counted(sender)
    server.reset()
    assert (await sender.finish()).counts.sent_count == len(PEOPLE)
    assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}


async def test_a_port_that_nobody_listens_on_opens_the_circuit_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer
) -> None:
    await server.stop()
    await sender.send(*PEOPLE)
    await sender.until_account(lambda account: account.circuit.state == OPEN)
    assert await nobody_counted(sender)
    await server.start(server.port)
    assert (await sender.finish()).counts.sent_count == len(PEOPLE)


def unknown_host(number: int) -> Callable[..., Any]:
    async def look_up(*_: object, **__: object) -> Any:
        raise socket.gaierror(number, "as the resolver says it")

    return look_up


async def test_a_host_that_does_not_exist_holds_the_account_after_a_quarter_of_an_hour(
    sender: SenderService, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown_host(socket.EAI_NONAME))
    await sender.send(ADA)
    await sender.later(14 * 60)
    assert not (await sender.accounts())["main"].held
    await sender.later(20 * 60)
    assert "host name" in (await held(sender)).hold_reason
    assert await nobody_counted(sender)


async def test_a_resolver_that_does_not_answer_never_holds_the_account(
    sender: SenderService, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown_host(socket.EAI_AGAIN))
        await sender.send(ADA)
        await sender.later(35 * 60)
        assert not (await sender.accounts())["main"].held
        assert await nobody_counted(sender)
    assert (await sender.finish()).counts.sent_count == 1


async def test_a_greeting_that_refuses_three_times_in_a_row_holds_the_account(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("GREETING", "554 5.3.2 not here")
    await sender.send(*PEOPLE)
    assert "554 5.3.2 not here" in (await held(sender)).hold_reason
    assert server.connection_count == 3
    assert await nobody_counted(sender)


async def test_a_greeting_that_refuses_twice_holds_nothing(sender: SenderService, server: SmtpServer) -> None:
    server.on("GREETING", "554 5.3.2 not here", times=2)
    await sender.send(ADA)
    await sender.done()
    assert await sender.outcomes(ADA) == ["REQUEUED", "REQUEUED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 0
    assert not (await sender.accounts())["main"].held


async def test_helo_is_enough_where_neither_tls_nor_auth_is_needed(sender: SenderService, server: SmtpServer) -> None:
    server.on("EHLO", "502 5.5.1 what")
    await sender.send(ADA)
    await sender.done()
    assert server.commands[1].startswith("HELO")
    assert len(server.accepted) == 1


async def test_an_account_that_is_held_stays_held_after_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    async with SmtpServer() as server:
        server.on("GREETING", "554 5.3.2 not here")
        async with sender_service(tmp_path, clock) as sender:
            await sender.add_account(server.port)
            await sender.send(ADA)
            await held(sender)
        server.reset()
        async with sender_service(tmp_path, clock) as sender:
            await sender.later(300)
            assert (await sender.accounts())["main"].held
            assert server.accepted == []
