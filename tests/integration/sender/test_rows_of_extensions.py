"""The rows of the table about what a server offers, at work: SIZE and SMTPUTF8, decided before anything is asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import CONTENT, SenderService, sender_service
from tests.fakes.smtp_server import EXTENSIONS, SmtpServer

ADA, JOERG = "ada@one.example", "jörg@one.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(20)]
WITHOUT_UTF8 = tuple(one for one in EXTENSIONS if one != "SMTPUTF8")


@asynccontextmanager
async def two_accounts(folder: Path, clock: FakeClock) -> AsyncIterator[tuple[SenderService, SmtpServer, SmtpServer]]:
    """Run a sender with the accounts "plain", whose server lacks SMTPUTF8, and "utf8", whose server offers it."""
    async with (
        SmtpServer(extensions=WITHOUT_UTF8) as plain,
        SmtpServer() as utf8,
        sender_service(folder, clock) as sender,
    ):
        await sender.add_account(plain.port, "plain")
        await sender.add_account(utf8.port, "utf8")
        yield sender, plain, utf8


async def hold(sender: SenderService, name: str) -> None:
    account = (await sender.accounts())[name]
    await sender.stub.HoldAccount(
        sender_pb2.HoldAccountRequest(account_id=account.account_id, reason="wait"), timeout=5
    )


async def test_a_message_larger_than_size_fails_unasked_and_the_run_says_so(tmp_path: Path, clock: FakeClock) -> None:
    async with SmtpServer(extensions=("PIPELINING", "SIZE 100")) as server, sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA)
        run = await sender.until(lambda run: bool(run.counts.failed_count and run.state_reason))
        assert "too large for this account" in run.state_reason
        assert not [line for line in server.commands if line.startswith("MAIL")]


async def test_a_message_larger_than_size_leaves_no_intent(tmp_path: Path, clock: FakeClock) -> None:
    async with SmtpServer(extensions=("PIPELINING", "SIZE 100")) as server, sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA)
        await sender.done()
        assert [(one.stage, one.reply.code) for one in await sender.attempts(ADA)] == [("MAIL", 0)]
        assert (await sender.accounts())["main"].last_day_count == 0


async def test_a_number_in_ehlo_that_is_no_size_fails_nobody(tmp_path: Path, clock: FakeClock) -> None:
    async with SmtpServer(extensions=("PIPELINING", "SIZE " + "9" * 5000)) as server:  # noqa: SIM117
        async with sender_service(tmp_path, clock) as sender:
            await sender.add_account(server.port)
            await sender.send(*PEOPLE)
            assert (await sender.finish()).counts.sent_count == len(PEOPLE)


async def test_a_non_ascii_local_part_goes_through_the_account_that_offers_smtputf8(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with two_accounts(tmp_path, clock) as (sender, _, utf8):
        for number in range(6):
            await sender.send(f"jörg{number}@one.example")
        await sender.done()
        assert len(utf8.accepted) == 6
        assert next(line for line in utf8.commands if line.startswith("MAIL")).endswith(" SMTPUTF8")
        assert {one.retry_count for one in (await sender.deliveries()).values()} == {0}


async def test_a_non_ascii_local_part_fails_where_no_account_offers_smtputf8(
    sender: SenderService, server: SmtpServer
) -> None:
    server.extensions = WITHOUT_UTF8
    await sender.send(JOERG, *PEOPLE)
    await sender.done()
    delivery = (await sender.deliveries())[JOERG]
    assert delivery.state == sender_pb2.DELIVERY_STATE_FAILED
    assert "SMTPUTF8" in delivery.state_reason
    assert sorted(mail.recipients[0] for mail in server.accepted) == sorted(PEOPLE)
    assert await sender.suppressed() == []


async def test_with_the_only_account_for_it_held_a_non_ascii_local_part_fails_and_the_others_are_sent(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with two_accounts(tmp_path, clock) as (sender, plain, utf8):
        await hold(sender, "utf8")
        await sender.send(JOERG, *PEOPLE)
        await sender.done()
        delivery = (await sender.deliveries())[JOERG]
        assert delivery.state == sender_pb2.DELIVERY_STATE_FAILED
        assert "SMTPUTF8" in delivery.state_reason
        assert (len(plain.accepted), len(utf8.accepted)) == (len(PEOPLE), 0)


async def test_with_the_only_account_for_it_resting_a_non_ascii_local_part_waits_and_the_others_are_sent(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with two_accounts(tmp_path, clock) as (sender, plain, utf8):
        utf8.on("MAIL", "451 4.7.1 slow down, try again in 1200 seconds", times=1)
        plain.on("MAIL", "451 4.7.1 slow down, try again in 1 second", times=1)
        await sender.send(*(f"warm{number}@one.example" for number in range(4)), run_id="before")
        await sender.until_account(lambda account: account.HasField("rest_until_time"), "utf8")
        await sender.done("before")
        await sender.send(JOERG, *PEOPLE)
        await sender.until(lambda run: run.counts.sent_count == len(PEOPLE) and run.counts.deferred_count == 1)
        assert 'account "utf8": rests until' in (await sender.deliveries())[JOERG].state_reason
        await sender.finish()
        assert utf8.mails_to(JOERG)
        assert (await sender.deliveries())[JOERG].retry_count == 0


async def test_a_copy_to_a_non_ascii_local_part_that_nobody_can_send_is_no_endless_loop(
    tmp_path: Path, clock: FakeClock
) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.cc.add(address=JOERG)
    async with SmtpServer(extensions=WITHOUT_UTF8) as server, sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port, caps=sender_pb2.AccountCaps(per_day_count=100))
        await sender.send(ADA, content=content)
        await sender.later(120)
        assert await sender.states() == {ADA: "FAILED"}
        assert len(await sender.attempts(ADA)) == 1
        assert (await sender.accounts())["main"].last_day_count == 0


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ("SIZE",), ("SIZE 0", "PIPELINING")], ids=str)
async def test_a_server_that_offers_little_gets_its_messages_all_the_same(
    sender: SenderService, server: SmtpServer, extensions: tuple[str, ...]
) -> None:
    server.extensions = extensions
    await sender.send(*PEOPLE)
    await sender.done()
    assert sorted(mail.recipients[0] for mail in server.accepted) == sorted(PEOPLE)
