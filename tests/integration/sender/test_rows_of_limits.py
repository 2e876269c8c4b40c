"""The rows of the table about limits, at work: the account rests, and one recipient stops nobody else."""

from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer, refuse

ADA = "ada@one.example"
PEOPLE = [f"p{number}@d{number % 7}.example" for number in range(20)]
LIMITS = [
    ("550 5.4.5 daily user sending limit exceeded", 3600),
    ("450 4.7.1 rate limit exceeded", 300),
    ("451 4.7.28 your account is being throttled, try again in 600 seconds", 600),
    ("454 4.7.0 throttling failure", 300),
    ("450 4.7.1 not now", 300),
    ("452 4.3.1 out of resources", 300),
]


@pytest.mark.parametrize(("reply", "seconds"), LIMITS)
async def test_a_limit_named_at_rcpt_rests_the_account_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, reply: str, seconds: int
) -> None:
    await rests_for(sender, server, "RCPT", reply, seconds)


@pytest.mark.parametrize(("reply", "seconds"), LIMITS)
async def test_a_limit_named_at_data_rests_the_account_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, reply: str, seconds: int
) -> None:
    await rests_for(sender, server, "DATA", reply, seconds)


async def test_a_limit_named_after_the_dot_rests_the_account_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer
) -> None:
    await rests_for(sender, server, "DOT", LIMITS[0][0], LIMITS[0][1])


async def rests_for(sender: SenderService, server: SmtpServer, stage: str, reply: str, seconds: int) -> None:
    """Let one message meet a limit: nothing is sent until the rest is over, and no attempt is counted."""
    server.on(stage, reply, times=1)
    await sender.send(ADA)
    run = await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED)
    rest = run.stalled_until_time.ToDatetime(sender.clock.now().tzinfo) - sender.clock.now()
    assert seconds - 30 <= rest.total_seconds() <= seconds
    assert reply in run.state_reason
    account = (await sender.accounts())["main"]
    assert (account.held, account.circuit.failure_count) == (False, 0)
    await sender.later(seconds * 0.8)
    assert server.accepted == []
    await sender.finish()
    assert await sender.outcomes(ADA) == ["REQUEUED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 0


async def test_a_mailbox_that_gets_mail_too_quickly_neither_rests_the_account_nor_stops_the_others(
    sender: SenderService, server: SmtpServer
) -> None:
    reply = "450 4.2.1 The user you are trying to contact is receiving mail too quickly"
    server.on("RCPT", refuse(ADA, reply=reply))
    await sender.send(ADA, *PEOPLE)
    run = await sender.until(lambda run: run.counts.sent_count == len(PEOPLE) and run.counts.deferred_count == 1)
    assert run.counts.total_count == len(PEOPLE) + 1
    assert not (await sender.accounts())["main"].HasField("rest_until_time")


async def test_a_limit_that_one_recipient_alone_meets_lets_it_step_aside_and_all_others_go_out(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    async with sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port, max_connection_count=1)
        server.on("RCPT", refuse(ADA, reply="451 4.7.1 rate limit"))
        options = sender_pb2.DeliveryOptions()
        options.retry_policy.delays.add().FromSeconds(6 * 3600)  # long after the others
        await sender.send(ADA, *PEOPLE, options=options)
        while (await sender.run()).counts.sent_count < len(PEOPLE):
            assert len(await sender.attempts(ADA)) <= 2
            await sender.later(0)
        run = await sender.run()
        assert (run.counts.deferred_count, run.counts.failed_count) == (1, 0)
        assert await sender.outcomes(ADA) == ["REQUEUED", "DEFERRED"]
