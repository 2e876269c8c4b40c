"""What becomes of messages: real SMTP servers that misbehave on cue, and the book afterwards."""

import pytest

from mailer.v1 import sender_pb2
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import CONTENT, SenderService
from tests.fakes.smtp_server import Accept, Drop, SmtpServer, refuse

ADA, BOB, EVE = "ada@one.example", "bob@two.example", "eve@three.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
AT_LEAST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE)


async def test_each_recipient_gets_its_own_outcome(sender: SenderService, server: SmtpServer) -> None:
    server.on(
        "RCPT", lambda _, argument: {"<full": "452 4.2.2 full", "<nobo": "550 5.1.1 who"}.get(argument[3:8], "250 ok")
    )
    await sender.send(ADA, "full@two.example", "nobody@two.example")
    await sender.until(lambda run: run.counts.pending_count + run.counts.in_progress_count == 0)
    assert await sender.states() == {ADA: "SENT", "full@two.example": "DEFERRED", "nobody@two.example": "FAILED"}
    assert [mail.recipients for mail in server.accepted] == [(ADA,)]


async def test_a_refused_address_is_suppressed_and_never_tried_again(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", refuse(ADA))
    await sender.send(ADA)
    await sender.done()
    server.reset()
    await sender.send(ADA, BOB, run_id="next")
    await sender.done("next")
    assert await sender.states("next") == {ADA: "SUPPRESSED", BOB: "SENT"}
    assert server.mails_to(ADA) == []


async def test_a_deferred_message_is_sent_when_its_time_has_come(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("RCPT", "450 4.2.1 later", times=1)
    await sender.send(ADA)
    run = await sender.until(lambda run: run.counts.deferred_count == 1)
    wait = run.next_attempt_time.ToDatetime(clock.now().tzinfo) - clock.now()
    assert 290 <= wait.total_seconds() <= 360
    await sender.advance(wait.total_seconds() + 2)
    await sender.done()
    assert await sender.states() == {ADA: "SENT"}
    delivery = (await sender.deliveries())[ADA]
    assert delivery.retry_count == 1


async def test_a_message_is_the_same_to_the_byte_at_every_attempt(sender: SenderService, server: SmtpServer) -> None:
    server.on("DOT", [Accept(), "451 4.3.0 later"], times=1)
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.advance(400)
    await sender.done()
    first, second = server.mails_to(ADA)
    assert first.content == second.content


async def test_a_loss_before_the_dot_is_certainly_not_accepted_and_tried_again(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("BODY", Drop(), times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.advance(400)
    await sender.done()
    assert await sender.states() == {ADA: "SENT"}
    assert len(server.mails_to(ADA)) == 1


async def test_at_most_once_lists_a_loss_after_the_dot_as_unknown(sender: SenderService, server: SmtpServer) -> None:
    server.on("DOT", [Accept(), Drop()], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    assert await sender.states() == {ADA: "UNKNOWN"}
    await sender.advance(10 * 3600)
    assert len(server.mails_to(ADA)) == 1


async def test_at_least_once_sends_again_after_a_loss_after_the_dot_and_flags_it(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("DOT", [Accept(), Drop()], times=1)
    await sender.send(ADA, options=AT_LEAST_ONCE)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    await sender.advance(400)
    await sender.done()
    delivery = (await sender.deliveries())[ADA]
    assert delivery.state == sender_pb2.DELIVERY_STATE_SENT
    assert delivery.possible_duplicate
    assert len(server.mails_to(ADA)) == 2


@pytest.mark.parametrize(
    ("resolution", "state", "copies"),
    [
        (sender_pb2.ResolveUnknownRequest.RESOLUTION_SENT, "SENT", 1),
        (sender_pb2.ResolveUnknownRequest.RESOLUTION_RETRY, "SENT", 2),
    ],
)
async def test_a_person_decides_what_became_of_an_unknown_message(
    sender: SenderService,
    server: SmtpServer,
    resolution: "sender_pb2.ResolveUnknownRequest.Resolution.ValueType",
    state: str,
    copies: int,
) -> None:
    server.on("DOT", [Accept(), Drop()], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    request = sender_pb2.ResolveUnknownRequest(request_id="r", run_id="run", resolution=resolution)
    assert (await sender.stub.ResolveUnknown(request, timeout=5)).resolved_count == 1
    assert (await sender.stub.ResolveUnknown(request, timeout=5)).resolved_count == 1  # the stored answer
    await sender.done()
    assert await sender.states() == {ADA: state}
    assert len(server.mails_to(ADA)) == copies


async def test_another_account_takes_over_when_the_path_fails(sender: SenderService, server: SmtpServer) -> None:
    async with SmtpServer() as other:
        await sender.add_account(other.port, "other")
        server.on("GREETING", "421 4.3.2 closing")
        await sender.send(*(f"p{number}@one.example" for number in range(20)))
        while (await sender.run()).state != sender_pb2.Run.STATE_DONE:
            await sender.advance(1)
            await sender.tick()
        assert len(other.accepted) == 20
        assert server.accepted == []
        assert len({mail.recipients for mail in other.accepted}) == 20


async def test_when_everything_rests_the_run_is_stalled_with_reason_and_time_and_goes_on_by_itself(
    sender: SenderService, server: SmtpServer
) -> None:
    server.on("GREETING", Drop())
    await sender.send(*(f"p{number}@one.example" for number in range(30)))
    run = await sender.run()
    for _ in range(200):
        run = await sender.run()
        if run.state == sender_pb2.Run.STATE_STALLED:
            break
        await sender.advance(0.5)
        await sender.tick()
    assert run.state == sender_pb2.Run.STATE_STALLED
    assert "circuit open until" in run.state_reason
    assert run.counts.pending_count == 30
    assert run.HasField("stalled_until_time")
    connections = server.connection_count
    await sender.advance(200)
    assert server.connection_count == connections
    server.reset()
    for _ in range(400):
        await sender.advance(1)
        await sender.tick()
        if (await sender.run()).state == sender_pb2.Run.STATE_DONE:
            break
    assert (await sender.run()).counts.sent_count == 30
    assert all(one.retry_count == 0 for one in (await sender.deliveries()).values())


async def test_copies_go_to_cc_and_bcc_and_a_refused_copy_does_not_stop_the_message(
    sender: SenderService, server: SmtpServer
) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.cc.add(address=BOB)
    content.bcc.add(address=EVE)
    server.on("RCPT", refuse(EVE))
    await sender.send(ADA, content=content)
    await sender.done()
    (mail,) = server.accepted
    assert mail.recipients == (ADA, BOB)
    assert b"Bcc" not in mail.content
    assert EVE.encode() not in mail.content
    assert EVE in (await sender.deliveries())[ADA].state_reason


async def test_a_suspended_account_burns_nobody(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", "550 5.7.1 account suspended")
    await sender.send(*(f"p{number}@d{number % 7}.example" for number in range(100)))
    run = await sender.until(lambda run: run.state == sender_pb2.Run.STATE_STALLED and not run.counts.failed_count)
    assert run.counts.pending_count == 100
    assert "held" in run.state_reason
    assert not (await sender.stub.ListSuppressions(sender_pb2.ListSuppressionsRequest(), timeout=5)).suppressions


async def test_a_recipient_that_cannot_be_rendered_fails_alone(sender: SenderService, server: SmtpServer) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.text = "{% for item in items %}{{ item }}{% endfor %}"
    good, bad = sender_pb2.Recipient(address=ADA), sender_pb2.Recipient(address=BOB)
    good.variables.update({"items": ["a"]})
    bad.variables.update({"items": 7})
    await sender.send(content=content, recipients=[good, bad])
    await sender.done()
    assert await sender.states() == {ADA: "SENT", BOB: "FAILED"}
    assert "rendered" in (await sender.deliveries())[BOB].state_reason
