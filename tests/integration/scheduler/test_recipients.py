"""Recipients by stream: counted, checked line by line, kept when the stream breaks."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from mailer.v1 import scheduler_pb2, sender_pb2
from tests.integration.scheduler.conftest import (
    Campaign,
    Scheduler,
    add,
    becomes,
    content,
    create_campaign,
    draft,
    get,
    people,
    recipient,
    refused,
    schedule,
)

Reason = sender_pb2.RejectedRecipient


async def listed(scheduler: Scheduler, campaign_id: str, page_size: int = 0) -> list[sender_pb2.Recipient]:
    found: list[sender_pb2.Recipient] = []
    token = ""
    while True:
        page = await scheduler.stub.ListRecipients(
            scheduler_pb2.ListRecipientsRequest(campaign_id=campaign_id, page_size=page_size, page_token=token),
            timeout=5,
        )
        found += page.recipients
        token = page.next_page_token
        if not token:
            return found


async def test_recipients_come_back_in_the_order_in_which_they_were_added(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 7)
    await add(scheduler.stub, campaign_id, [recipient("aaa@example.org", name="A", tags=["x", 1, None], ok=True)])
    found = await listed(scheduler, campaign_id, page_size=3)
    assert [one.address for one in found] == [f"user{number}@example.org" for number in range(7)] + ["aaa@example.org"]
    assert found[-1].variables.fields["tags"].list_value.values[1].number_value == 1


async def test_a_page_of_large_recipients_ends_before_it_outgrows_a_message(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    await add(scheduler.stub, campaign_id, [recipient(f"a{n}@x.org", name="x" * 15_000) for n in range(200)])
    await add(scheduler.stub, campaign_id, [recipient(f"b{n}@x.org", name="x" * 15_000) for n in range(200)])
    assert len(await listed(scheduler, campaign_id, page_size=1000)) == 400


async def test_good_lines_are_kept_and_bad_ones_named_by_index_and_reason(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    lines = [
        recipient("ada@example.org"),
        recipient("a@x.org, b@x.org"),
        recipient("bob@example.org", nickname="Bob"),
        sender_pb2.Recipient(address="eve@example.org", display_name="Eve\r\nBcc: x@x.org"),
        recipient("big@example.org", name="x" * 20_000),
        recipient("A=?UTF-8?Q?=0A?=@example.org"),
        recipient("x" * 65 + "@example.org"),
        recipient("ADA@Example.ORG"),
        recipient("grace@bücher.example"),
    ]
    lines[3].variables.update({"name": "Eve"})
    answer = await add(scheduler.stub, campaign_id, lines)
    assert (answer.accepted_count, answer.duplicate_count, answer.rejected_count) == (2, 1, 6)
    assert answer.recipient_count == 2
    assert {one.index: one.reason for one in answer.rejected} == {
        1: Reason.REASON_INVALID_ADDRESS,
        2: Reason.REASON_MISSING_VARIABLE,
        3: Reason.REASON_INVALID_FIELD,
        4: Reason.REASON_TOO_LARGE,
        5: Reason.REASON_INVALID_ADDRESS,
        6: Reason.REASON_INVALID_ADDRESS,
    }
    assert answer.rejected[0].address == "a@x.org, b@x.org"
    assert "name" in answer.rejected[1].description
    campaign = await get(scheduler.stub, campaign_id)
    assert (campaign.recipient_count, campaign.duplicate_count) == (2, 1)
    assert [one.address for one in await listed(scheduler, campaign_id)] == [
        "ada@example.org",
        "grace@xn--bcher-kva.example",
    ]


async def test_indexes_count_over_the_whole_stream(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    answer = await add(scheduler.stub, campaign_id, [*people(1500), recipient("nonsense")])
    assert [one.index for one in answer.rejected] == [1500]


async def test_a_repeated_stream_changes_nothing(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 50)
    answer = await add(scheduler.stub, campaign_id, people(60))
    assert (answer.accepted_count, answer.duplicate_count, answer.recipient_count) == (10, 50, 60)


async def test_a_stream_without_recipients_adds_none(scheduler: Scheduler) -> None:
    campaign_id = await draft(scheduler.stub, 2)

    def nothing() -> Iterator[scheduler_pb2.AddRecipientsRequest]:
        yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id)

    answer = await scheduler.stub.AddRecipients(nothing(), timeout=20)
    assert (answer.accepted_count, answer.recipient_count) == (0, 2)
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id"}):
        await scheduler.stub.AddRecipients(iter(()), timeout=20)


async def test_what_arrived_before_a_wrong_message_is_kept(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)

    def messages() -> Iterator[scheduler_pb2.AddRecipientsRequest]:
        yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=people(5))
        yield scheduler_pb2.AddRecipientsRequest(campaign_id="0" * 32, recipients=people(1001, start=5))

    async with refused(grpc.StatusCode.INVALID_ARGUMENT, fields={"campaign_id", "recipients"}):
        await scheduler.stub.AddRecipients(messages(), timeout=20)
    assert (await get(scheduler.stub, campaign_id)).recipient_count == 5


async def test_what_arrived_before_the_stream_broke_is_kept(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    sent = asyncio.Event()

    async def messages() -> AsyncIterator[scheduler_pb2.AddRecipientsRequest]:
        yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=people(1000))
        yield scheduler_pb2.AddRecipientsRequest(recipients=people(1000, start=1000))
        yield scheduler_pb2.AddRecipientsRequest(recipients=people(500, start=2000))
        sent.set()
        await asyncio.Event().wait()

    call = scheduler.stub.AddRecipients(messages())
    await sent.wait()
    await becomes(scheduler.stub, campaign_id, lambda one: one.recipient_count == 2000)
    call.cancel()
    await becomes(scheduler.stub, campaign_id, lambda one: one.recipient_count == 2500)


async def test_a_campaign_that_does_not_exist_takes_nobody(scheduler: Scheduler) -> None:
    async with refused(grpc.StatusCode.NOT_FOUND):
        await add(scheduler.stub, "0" * 32, people(1))
    async with refused(grpc.StatusCode.NOT_FOUND):
        await listed(scheduler, "0" * 32)


async def test_a_field_that_every_message_needs_is_missed_before_anything_is_sent(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub, content=content(subject="For {{ person.name }}", text="Hi"))
    lines = [recipient("ada@x.org", person={"name": "Ada"}), recipient("bob@x.org", person={"nam": "Bob"})]
    answer = await add(scheduler.stub, campaign_id, lines)
    assert [(one.index, one.reason) for one in answer.rejected] == [(1, Reason.REASON_MISSING_VARIABLE)]
    assert answer.rejected[0].description.endswith(": person.name")
    changed = Campaign(campaign_id=campaign_id, content=content(subject="For {{ person.title }}", text="Hi"))
    mask = FieldMask(paths=["content"])
    updated = await scheduler.stub.UpdateCampaign(
        scheduler_pb2.UpdateCampaignRequest(campaign=changed, update_mask=mask), timeout=5
    )
    assert updated.campaign.required_variables == ["person", "person.title"]
    async with refused(grpc.StatusCode.FAILED_PRECONDITION, reason="MISSING_VARIABLES"):
        await schedule(scheduler.stub, campaign_id)


async def test_an_answer_about_very_many_bad_lines_arrives(scheduler: Scheduler) -> None:
    needed = "".join(f"{{{{ variable_with_a_long_name_{number} }}}}" for number in range(300))
    campaign_id = await create_campaign(scheduler.stub, content=content(text=needed))
    lines = [recipient("é" * 320 + f"{number}@x.org") for number in range(500)]
    answer = await add(scheduler.stub, campaign_id, [*lines, *people(2000)])
    assert (answer.accepted_count, answer.rejected_count, len(answer.rejected)) == (0, 2500, 1000)
    assert answer.ByteSize() < 3 * 1024 * 1024
    assert answer.rejected[999].description.endswith("and 295 more")


async def test_variables_far_too_large_are_refused_without_a_look_into_them(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)
    large = recipient("ada@example.org", a={"K" * 3_000_000: float("nan")})

    def messages() -> Iterator[scheduler_pb2.AddRecipientsRequest]:
        for _ in range(20):
            yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=[large])

    answer = await scheduler.stub.AddRecipients(messages(), timeout=60)
    assert {one.reason for one in answer.rejected} == {Reason.REASON_TOO_LARGE}
    assert answer.ByteSize() < 10_000


async def test_a_hundred_thousand_recipients_in_one_call_need_little_memory(scheduler: Scheduler) -> None:
    campaign_id = await create_campaign(scheduler.stub)

    def messages() -> Iterator[scheduler_pb2.AddRecipientsRequest]:
        for start in range(0, 100_000, 1000):
            yield scheduler_pb2.AddRecipientsRequest(campaign_id=campaign_id, recipients=people(1000, start=start))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await scheduler.stub.AddRecipients(messages(), timeout=100)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (answer.accepted_count, answer.recipient_count) == (100_000, 100_000)
    assert grown < 100 * 1024, f"{grown} KiB more"
