"""The rows of the table from DATA to the end of the body, at work: before the dot nothing is accepted."""

from datetime import timedelta
from pathlib import Path

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import CONTENT, SenderService, sender_service
from tests.fakes.smtp_server import Drop, Early, Reset, SmtpServer

ADA, BOB = "ada@one.example", "bob@two.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)


def long_content() -> sender_pb2.MessageContent:
    """Return a content that is written in many pieces, and does not fit into the buffers on its way."""
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.attachments.add(filename="long.bin", content=bytes(3_000_000))
    return content


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_421_before_the_dot_closes_the_connection_and_costs_no_attempt(
    sender: SenderService, server: SmtpServer, stage: str
) -> None:
    server.on(stage, "421 4.3.2 closing", times=1)
    await sender.send(ADA)
    await sender.done()
    assert server.connection_count == 2
    assert await sender.outcomes(ADA) == ["REQUEUED", "SENT"]
    assert (await sender.deliveries())[ADA].retry_count == 0


async def test_421_before_the_dot_is_a_failure_of_the_path(sender: SenderService, server: SmtpServer) -> None:
    server.on("MAIL", "421 4.3.2 closing")
    await sender.send(ADA, BOB)
    await sender.until_account(lambda account: account.circuit.state == sender_pb2.Circuit.STATE_OPEN)


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize("end", [Drop(), Reset()], ids=str)
async def test_a_connection_lost_before_the_dot_defers_the_message_whatever_the_policy(
    sender: SenderService, server: SmtpServer, stage: str, end: Drop | Reset
) -> None:
    server.on(stage, end, times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    assert (await sender.accounts())["main"].circuit.failure_count == 1
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]
    assert len(server.accepted) == 1
    assert not (await sender.deliveries())[ADA].possible_duplicate


@pytest.mark.parametrize("reply", ["451 4.3.0 local error", "450 later"])
async def test_data_refused_for_now_defers_the_message(sender: SenderService, server: SmtpServer, reply: str) -> None:
    server.on("DATA", reply, times=1)
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    account = (await sender.accounts())["main"]
    assert (account.circuit.failure_count, account.HasField("rest_until_time")) == (0, False)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]


async def test_data_refused_for_good_is_tried_once_more_on_a_new_connection(
    tmp_path: Path, clock: FakeClock, server: SmtpServer
) -> None:
    server.on("DATA", "554 5.5.0 no valid recipients", times=1)
    async with sender_service(tmp_path, clock, idle_connection=timedelta(hours=1)) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA)
        await sender.until(lambda run: run.counts.deferred_count == 1)
        await server.until(lambda: server.open_count == 0)
        await sender.send(BOB)  # opens a connection that Ada's message must not use either
        await sender.finish()
        assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]
        assert [mail.connection for mail in server.mails_to(BOB)] == [2]
        assert [mail.connection for mail in server.mails_to(ADA)] == [3]


async def test_data_refused_for_good_twice_fails_the_message_and_says_nothing_about_the_account(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DATA", "554 5.5.0 no valid recipients")
    await sender.send(ADA)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "FAILED"]
    account = (await sender.accounts())["main"]
    assert (account.held, account.circuit.failure_count, await sender.suppressed()) == (False, 0, [])


async def test_after_a_person_asked_again_data_refused_for_good_is_tried_once_more_before_it_fails(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DATA", "554 5.5.0 no valid recipients")
    await sender.send(ADA)
    await sender.finish()
    await sender.stub.RetryRun(sender_pb2.RetryRunRequest(request_id="again", run_id="run"), timeout=5)
    await sender.finish()
    outcomes = [one for one in await sender.outcomes(ADA) if one != "RESOLVED"]
    assert outcomes == ["DEFERRED", "FAILED", "DEFERRED", "FAILED"]


@pytest.mark.parametrize("reply", ["250 2.0.0 ok", "334 what"])
async def test_data_answered_by_anything_but_354_closes_the_connection_and_defers_the_message(
    sender: SenderService, server: SmtpServer, reply: str
) -> None:
    server.on("DATA", reply, times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    assert (await sender.accounts())["main"].circuit.failure_count == 1
    assert server.accepted == []
    await server.until(lambda: server.open_count == 0)
    await sender.finish()
    assert await sender.outcomes(ADA) == ["DEFERRED", "SENT"]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("552 5.2.3 too much", "FAILED"),
        ("451 4.3.0 local error", "DEFERRED"),
        ("421 4.3.2 closing", "REQUEUED"),
        ("354 go on", "DEFERRED"),
    ],
)
async def test_an_early_reply_is_the_answer_to_the_message_and_the_rest_is_not_written(
    sender: SenderService, server: SmtpServer, reply: str, outcome: str
) -> None:
    server.on("BODY", Early(reply), times=1)
    await sender.send(ADA, content=long_content(), options=AT_MOST_ONCE)
    await sender.until(lambda run: bool(run.counts.failed_count + run.counts.deferred_count + run.counts.sent_count))
    attempt = (await sender.attempts(ADA))[0]
    assert (attempt.stage, attempt.reply.code) == ("BODY", int(reply[:3]))
    assert (await sender.outcomes(ADA))[0] == outcome
    assert {mail.connection for mail in server.accepted} <= {2}


async def test_an_early_yes_is_believed_by_nobody(sender: SenderService, server: SmtpServer) -> None:
    server.on("BODY", Early("250 2.0.0 ok"), times=1)
    await sender.send(ADA, content=long_content(), options=AT_MOST_ONCE)
    await sender.done()
    assert await sender.states() == {ADA: "UNKNOWN"}


async def test_a_server_without_8bitmime_gets_seven_bits(sender: SenderService, server: SmtpServer) -> None:
    server.extensions = ("SIZE 10485760",)
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.subject, content.text, content.html = "Grüße", "Grüße aus Köln", "<p>Grüße aus Köln</p>"
    await sender.send(ADA, content=content)
    await sender.done()
    assert server.accepted[0].content.isascii()
