"""The rows of the table at RCPT, at work: what is the recipient's, what is the account's, and who is suppressed."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_connection import path_of
from tests.fakes.smtp_server import DEFAULT, Session, SmtpServer, refuse
from tests.fakes.smtp_steps import Answer

ADA, BOB = "ada@one.example", "bob@two.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(8)]


@pytest.mark.parametrize(
    "reply",
    [
        "450 4.2.0 mailbox busy",
        "451 4.3.0 local error",
        "452 4.2.2 mailbox full",
        "450 mailbox unavailable",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    ],
)
async def test_a_recipient_refused_for_now_is_deferred_and_says_nothing_about_the_account(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("RCPT", refuse(ADA, reply=reply))
    await sender.send(ADA, *PEOPLE)
    run = await sender.until(lambda run: run.counts.sent_count == len(PEOPLE) and run.counts.deferred_count == 1)
    account = (await sender.accounts())["main"]
    assert not account.HasField("rest_until_time")
    assert (account.held, account.circuit.failure_count) == (False, 0)
    assert run.counts.failed_count == 0
    server.reset()
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 1


@pytest.mark.parametrize(
    "reply", ["452 4.5.3 too many recipients", "452 too many recipients", "552 too many recipients", "550 5.5.3 enough"]
)
async def test_too_many_recipients_is_asked_again_at_once_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("RCPT", reply, times=1)
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.sent_count == 1)
    assert await sender.outcomes(ADA) == ["REQUEUED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 0


async def test_too_many_recipients_said_to_one_recipient_for_ever_defers_it(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("RCPT", refuse(ADA, reply="452 4.5.3 too many recipients"))
    await sender.send(ADA, BOB)
    await sender.until(lambda run: run.counts.deferred_count == 1 and run.counts.sent_count == 1)
    assert await sender.outcomes(ADA) == ["REQUEUED", "REQUEUED", "DEFERRED"]


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 no such user",
        "551 5.1.6 moved away",
        "553 5.1.3 bad address",
        "554 5.1.10 null MX",
        "550 5.2.1 mailbox disabled",
        "550 no such user",
    ],
)
async def test_an_address_that_does_not_exist_fails_and_is_suppressed(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("RCPT", refuse(ADA, reply=reply))
    await sender.send(ADA, BOB)
    await sender.done()
    assert await sender.states() == {ADA: "FAILED", BOB: "SENT"}
    assert await sender.suppressed() == [ADA]


async def test_ten_addresses_that_do_not_exist_say_nothing_about_the_account(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("RCPT", "550 5.1.1 no such user")
    await sender.send(*(f"p{number}@d{number % 7}.example" for number in range(30)))
    assert (await sender.done()).counts.failed_count == 30
    account = (await sender.accounts())["main"]
    assert (account.held, account.circuit.failure_count) == (False, 0)


async def test_a_full_mailbox_is_tried_for_three_days_and_then_fails(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("RCPT", "552 5.2.2 mailbox full")
    options = sender_pb2.DeliveryOptions()
    options.expire_after.FromSeconds(10 * 86400)
    options.retry_policy.delays.add().FromSeconds(17 * 3600)
    start = clock.now()
    await sender.send(ADA, options=options)
    run = await sender.until(lambda run: run.counts.deferred_count == 1)
    while not run.counts.failed_count:
        if run.counts.deferred_count:
            due = run.next_attempt_time.ToDatetime(clock.now().tzinfo) - clock.now()
            clock.step_wall_clock(max(due.total_seconds(), 0))
        await sender.advance(1)
        await sender.tick()
        run = await sender.run()
    assert 3 <= (clock.now() - start).total_seconds() / 86400 < 4
    outcomes = await sender.outcomes(ADA)
    assert outcomes == ["DEFERRED"] * (len(outcomes) - 1) + ["FAILED"]
    assert await sender.suppressed() == []


@pytest.mark.parametrize(
    "reply", ["550 5.7.1 blocked by policy", "554 5.7.26 unauthenticated mail", "550 listed in a blocklist", "554 no"]
)
async def test_a_refusal_that_may_mean_us_fails_the_message_and_suppresses_nobody(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("RCPT", refuse(ADA, reply=reply))
    await sender.send(ADA, BOB)
    await sender.done()
    assert await sender.states() == {ADA: "FAILED", BOB: "SENT"}
    assert await sender.suppressed() == []


async def refused_in_a_row(sender: SenderService, server: SmtpServer, *, count: int, domains: int) -> None:
    """Let so many recipients at so many domains be refused one after the other, and then one be taken."""
    server.on("RCPT", lambda _, argument: DEFAULT if BOB in argument else "550 5.7.1 blocked by policy")
    await sender.send(*(f"p{number}@d{number % domains}.example" for number in range(count)))
    await sender.done()
    await sender.send(BOB)
    await sender.done()


async def test_nine_refusals_and_a_success_hold_nothing(sender: SenderService, server: SmtpServer) -> None:
    await refused_in_a_row(sender, server, count=9, domains=5)
    await sender.send("one@more.example")
    run = await sender.done()
    assert (run.counts.failed_count, run.counts.sent_count) == (10, 1)


async def test_ten_refusals_at_four_domains_hold_nothing(sender: SenderService, server: SmtpServer) -> None:
    await refused_in_a_row(sender, server, count=10, domains=4)
    assert (await sender.run()).counts.failed_count == 10


async def test_ten_refusals_in_a_row_at_five_domains_hold_the_account_and_fail_nobody(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("RCPT", "550 5.7.1 blocked by policy")
    await sender.send(*(f"p{number}@d{number % 5}.example" for number in range(12)))
    await sender.until_account(lambda account: account.held)
    run = await sender.until(lambda run: run.counts.pending_count == 12)
    assert run.state == sender_pb2.Run.STATE_STALLED
    assert "refused 10 recipients at 5 domains in a row" in run.state_reason


async def test_more_than_three_in_ten_of_the_last_hundred_hold_the_account_and_fail_nobody(
    sender: SenderService, server: SmtpServer
) -> None:
    def every_second_of_the_later_ones(_: Session, argument: str) -> Answer:
        number = int(path_of(argument)[1:].partition("@")[0])
        return "550 5.7.1 blocked by policy" if number > 50 and number % 2 else DEFAULT

    server.on("RCPT", every_second_of_the_later_ones)
    await sender.send(*(f"p{number}@d{number % 7}.example" for number in range(150)))
    account = await sender.until_account(lambda account: account.held)
    assert "of the last 100 recipients" in account.hold_reason
    run = await sender.until(lambda run: not (run.counts.failed_count or run.counts.in_progress_count))
    assert run.counts.pending_count + run.counts.sent_count == 150
    assert await sender.suppressed() == []


async def test_three_in_ten_of_the_last_hundred_hold_nothing(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    def three_in_ten(_: Session, argument: str) -> Answer:
        number = int(path_of(argument)[1:].partition("@")[0])
        return "550 5.7.1 blocked by policy" if number % 10 < 3 else DEFAULT

    server.on("RCPT", three_in_ten)
    async with sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port, max_connection_count=1)  # several would change the order a little
        await sender.send(*(f"p{number}@d{number % 7}.example" for number in range(150)))
        run = await sender.done()
    assert (run.counts.failed_count, run.counts.sent_count) == (45, 105)
