"""PreviewMessage and PlanCampaign: what would be sent, and nothing is."""

from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import grpc

from mailer.v1 import scheduler_pb2, sender_pb2
from mailer.wire import from_timestamp, to_timestamp
from tests.fakes.sender import FakeSender
from tests.integration.scheduler.conftest import (
    Scheduler,
    add,
    content,
    create_campaign,
    draft,
    recipient,
    refused,
    schedule,
)


async def preview(scheduler: Scheduler, **values: Any) -> scheduler_pb2.PreviewMessageResponse:
    return await scheduler.stub.PreviewMessage(scheduler_pb2.PreviewMessageRequest(**values), timeout=20)


async def plan(scheduler: Scheduler, campaign_id: str) -> scheduler_pb2.PlanCampaignResponse:
    return await scheduler.stub.PlanCampaign(scheduler_pb2.PlanCampaignRequest(campaign_id=campaign_id), timeout=20)


async def test_a_preview_shows_the_message_of_a_recipient_of_the_campaign(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(
        scheduler.stub,
        content=content(html="<p>Dear {{ name }}</p>", cc=[sender_pb2.Mailbox(address="boss@example.org")]),
    )
    await add(scheduler.stub, campaign_id, [recipient("ada@x.org", name="Ada"), recipient("bob@x.org", name="<Bob>")])
    first = await preview(scheduler, campaign_id=campaign_id)
    assert (first.subject, first.text.strip()) == ("Hello Ada", "Dear Ada")
    second = await preview(scheduler, campaign_id=campaign_id, recipient=sender_pb2.Recipient(address="BOB@x.org"))
    assert second.subject == "Hello <Bob>"
    assert "Dear &lt;Bob&gt;" in second.html
    assert list(second.envelope_recipients) == ["bob@x.org", "boss@example.org"]
    assert second.size_bytes == len(second.message)
    message = message_from_bytes(second.message, policy=default)
    assert message["Subject"] == "Hello <Bob>"
    assert message["From"] == "News <news@example.org>"


async def test_a_preview_works_for_anybody_with_variables(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    shown = await preview(scheduler, campaign_id=campaign_id, recipient=recipient("eve@x.org", name="Eve"))
    assert shown.subject == "Hello Eve"
    shown = await preview(
        scheduler, content=content(subject="Hi {{ address }}"), recipient=recipient("eve@x.org", name="E")
    )
    assert shown.subject == "Hi eve@x.org"


async def test_a_message_too_large_for_an_answer_is_shown_without_its_bytes(scheduler: Scheduler) -> None:
    attachment = sender_pb2.Attachment(filename="a.bin", content=b"x" * (3 * 1024 * 1024))
    shown = await preview(
        scheduler, content=content(attachments=[attachment]), recipient=recipient("a@x.org", name="A")
    )
    assert shown.subject == "Hello A"
    assert shown.message == b""
    assert shown.size_bytes > 4 * 1024 * 1024


async def test_what_cannot_be_previewed_says_why(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 0)
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="NO_RECIPIENTS"):
        await preview(scheduler, campaign_id=campaign_id)
    async with refused(grpc.StatusCode.NOT_FOUND):
        await preview(scheduler, campaign_id=campaign_id, recipient=sender_pb2.Recipient(address="eve@x.org"))
    async with refused(grpc.StatusCode.NOT_FOUND):
        await preview(scheduler, template_id="0" * 32, recipient=recipient("eve@x.org"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id", "recipient"}):
        await preview(scheduler)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"recipient.variables"}):
        await preview(scheduler, content=content(), recipient=recipient("eve@x.org", name="E\0"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"recipient.display_name"}):
        named = sender_pb2.Recipient(address="eve@x.org", display_name="E\nE")
        await preview(scheduler, content=content(), recipient=named)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"recipient.variables"}):
        await preview(scheduler, content=content(), recipient=recipient("eve@x.org", city="Rome"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"recipient.address"}):
        await preview(scheduler, content=content(), recipient=recipient("eve@x.org, b@x.org"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"recipient.variables"}):
        await preview(scheduler, content=content(), recipient=recipient("eve@x.org", name="a\r\nb"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"content.text"}):
        await preview(scheduler, content=content(text="{% for %}"), recipient=recipient("eve@x.org"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"content"}):
        grown = "{{ '" + "a" * 10_000 + "'|replace('a', '" + "é" * 90 + "') }}"  # fits until it is encoded
        await preview(scheduler, content=content(text=grown), recipient=recipient("eve@x.org"))


async def test_a_plan_names_accounts_times_and_finish(scheduler: Scheduler, sender: FakeSender) -> None:
    caps = sender_pb2.AccountCaps(per_hour_count=10)
    sender.accounts = [
        sender_pb2.Account(account_id="a", name="one", caps=caps, from_addresses=["@example.org"]),
        sender_pb2.Account(account_id="b", name="two", caps=caps, from_addresses=["@example.com"]),
        sender_pb2.Account(account_id="c", name="three", caps=caps, disabled=True),
    ]
    campaign_id = await draft(scheduler.stub, 25)
    due = scheduler.clock.now() + timedelta(hours=1)
    await schedule(scheduler.stub, campaign_id, send_time=to_timestamp(due))
    answer = await plan(scheduler, campaign_id)
    assert answer.recipient_count == 25
    assert [account.name for account in answer.accounts] == ["one"]
    assert [from_timestamp(time) for time in answer.due_times] == [due]
    assert from_timestamp(answer.expected_finish_time) == due + timedelta(hours=2)
    assert not answer.problems
    assert not sender.runs


async def test_a_plan_says_what_stands_in_the_way(scheduler: Scheduler, sender: FakeSender) -> None:
    sender.accounts = [sender_pb2.Account(name="one", held=True, hold_reason="wrong password")]
    problems = " | ".join((await plan(scheduler, await draft(scheduler.stub, 0))).problems)
    assert "no recipients" in problems
    assert "wrong password" in problems
    assert "not scheduled" in problems
    async with refused(grpc.StatusCode.NOT_FOUND):
        await plan(scheduler, "0" * 32)
