"""SendBatch: what is stored, what is refused and how, and that a repeated call has no second effect."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Connection, update

from mailer.client import ErrorDetails, details_of
from mailer.v1 import sender_pb2
from services.sender import tables
from services.sender.identity import delivery_key, first_key
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import CONTENT, SenderService, sender_service

ADA, BOB = "ada@one.example", "bob@two.example"
# Short enough as a text, too long once it is encoded.
GROWN = sender_pb2.MessageContent(
    from_address=CONTENT.from_address,
    subject="Hello",
    text="{{ '" + "a" * 10_000 + "'|replace('a', '" + "é" * 90 + "') }}",
)


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock) -> AsyncIterator[SenderService]:
    """Return a sender without accounts: everything stays in the queue."""
    async with sender_service(tmp_path, clock, queue_limit=10) as running:
        yield running


async def refused(sender: SenderService, *addresses: str, **more: Any) -> ErrorDetails:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await sender.send(*addresses, **more)
    return details_of(error.value)


async def test_ok_means_stored_once_per_recipient(sender: SenderService) -> None:
    answer = await sender.send(ADA, BOB, "ADA@one.example")
    assert (answer.accepted_count, answer.duplicate_count) == (2, 1)
    assert list(await sender.states()) == [ADA, BOB]
    assert answer.delivery_ids[0] == answer.delivery_ids[2]
    run = await sender.run()
    assert run.counts.pending_count == run.counts.total_count == 2


async def test_the_keys_of_a_run_begin_alike(sender: SenderService) -> None:
    keys = [*(await sender.send(ADA, BOB)).delivery_ids, *(await sender.send(ADA, run_id="other")).delivery_ids]
    assert keys == [delivery_key("run", ADA), delivery_key("run", BOB), delivery_key("other", ADA)]
    assert keys[0][:8] == keys[1][:8] != keys[2][:8]


async def test_a_run_that_began_with_keys_of_an_earlier_version_goes_on_with_them(sender: SenderService) -> None:
    await sender.send(ADA)
    await sender.database.write(give_first_keys)
    answer = await sender.send(ADA, BOB)
    assert (answer.accepted_count, answer.duplicate_count) == (1, 1)
    assert list(answer.delivery_ids) == [first_key("run", ADA), first_key("run", BOB)]
    request = sender_pb2.ListDeliveriesRequest(run_id="run", address=ADA)
    listed = (await sender.stub.ListDeliveries(request, timeout=5)).deliveries
    assert [one.delivery_id for one in listed] == [first_key("run", ADA)]


def give_first_keys(connection: Connection) -> None:
    connection.execute(update(tables.deliveries).values(delivery_key=first_key("run", ADA)))


async def test_the_same_call_again_gives_the_same_answer_and_stores_nothing(sender: SenderService) -> None:
    first = await sender.send(ADA, "nobody", request_id="one")
    second = await sender.send(ADA, "nobody", request_id="one")
    assert first == second
    assert (await sender.run()).counts.total_count == 1


async def test_a_request_id_with_another_body_is_refused(sender: SenderService) -> None:
    await sender.send(ADA, request_id="one")
    error = await refused(sender, BOB, request_id="one")
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert list(await sender.states()) == [ADA]


async def test_a_direct_call_makes_a_run_of_its_own_that_is_the_same_when_repeated(sender: SenderService) -> None:
    first = await sender.send(ADA, run_id="", request_id="direct")
    again = await sender.send(ADA, run_id="", request_id="direct")
    other = await sender.send(ADA, run_id="", request_id="another")
    assert first.run_id == again.run_id != other.run_id
    assert (await sender.run(first.run_id)).policy == sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE


async def test_a_campaign_is_sent_at_most_once_unless_it_says_otherwise(sender: SenderService) -> None:
    await sender.send(ADA, campaign_id="c")
    assert (await sender.run()).policy == sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE


async def test_wrong_recipients_are_data_and_the_others_are_stored(sender: SenderService) -> None:
    long = f"{'x' * 65}@one.example"
    answer = await sender.send(ADA, "a@b.example, c@d.example", "e@f.example\r\nBcc: g@h.example", long, BOB)
    assert answer.accepted_count == 2
    assert [one.index for one in answer.rejected] == [1, 2, 3]
    assert {one.reason for one in answer.rejected} == {sender_pb2.RejectedRecipient.REASON_INVALID_ADDRESS}
    assert all(one.description for one in answer.rejected)
    assert [bool(one) for one in answer.delivery_ids] == [True, False, False, False, True]


async def test_a_missing_variable_is_named_before_anything_is_sent(sender: SenderService) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.text = "Hello {{ name }} from {{ city }}"
    known = sender_pb2.Recipient(address=BOB)
    known.variables.update({"name": "Bob", "city": "Oslo"})
    answer = await sender.send(content=content, recipients=[sender_pb2.Recipient(address=ADA), known])
    (rejected,) = answer.rejected
    assert rejected.reason == sender_pb2.RejectedRecipient.REASON_MISSING_VARIABLE
    assert "city" in rejected.description
    assert "name" in rejected.description


async def test_an_answer_about_a_thousand_wrong_recipients_arrives(sender: SenderService) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.text = "".join(f"{{{{ variable_with_a_long_name_{number} }}}}" for number in range(300))
    answer = await sender.send(*(f"{number}@one.example" for number in range(1000)), content=content)
    assert len(answer.rejected) == 1000
    assert answer.ByteSize() < 1024 * 1024


async def test_all_wrong_fields_are_named_at_once_and_nothing_is_stored(sender: SenderService) -> None:
    content = sender_pb2.MessageContent(
        from_address=sender_pb2.Mailbox(address="news@sender.example, eve@x.example"),
        subject="Hi\r\nBcc: eve@x.example",
        text="{{ ''.__class__ }}",
        headers=[sender_pb2.Header(name="Bcc", value="eve@x.example")],
    )
    options = sender_pb2.DeliveryOptions()
    options.expire_after.FromSeconds(31 * 24 * 3600)
    options.retry_policy.retry_on.append("nonsense")
    error = await refused(sender, ADA, request_id="", run_id="no good id!", content=content, options=options)
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert {one.field for one in error.violations} >= {
        "request_id",
        "run_id",
        "content.from_address.address",
        "content.subject",
        "content.text",
        "content.headers[0].name",
        "options.expire_after",
        "options.retry_policy.retry_on[0]",
    }
    assert all(one.description for one in error.violations)
    with pytest.raises(grpc.aio.AioRpcError):
        await sender.run("no good id!")


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"recipients": []}, "recipients"),
        ({"recipients": [sender_pb2.Recipient(address=f"p{n}@x.example") for n in range(1001)]}, "recipients"),
        ({"content": None}, "content"),
        ({"content": sender_pb2.MessageContent()}, "content.subject"),
        ({"content": GROWN}, "content"),
        ({"options": sender_pb2.DeliveryOptions(account_ids=[""])}, "options.account_ids[0]"),
    ],
)
async def test_what_is_missing_or_too_much_is_named(sender: SenderService, more: dict[str, Any], field: str) -> None:
    error = await refused(sender, ADA, **more)
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in {one.field for one in error.violations}


async def test_attachments_that_are_too_large_together_are_refused(sender: SenderService) -> None:
    content = sender_pb2.MessageContent()
    content.CopyFrom(CONTENT)
    content.attachments.add(filename="a.bin", content=bytes(2_000_000))
    content.attachments.add(filename="b.bin", content=bytes(1_500_000))
    error = await refused(sender, ADA, content=content)
    assert [one.field for one in error.violations] == ["content.attachments"]


async def test_a_full_queue_says_when_to_come_again(sender: SenderService) -> None:
    await sender.send(*(f"p{number}@one.example" for number in range(10)))
    error = await refused(sender, BOB)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert error.retry_after is not None
    await sender.send(BOB, run_id="another")  # the limit is one run's, not everybody's


async def test_a_full_queue_says_the_same_however_full_it_is(sender: SenderService) -> None:
    await sender.send(*(f"p{number}@one.example" for number in range(9)))
    await sender.send(*(f"q{number}@one.example" for number in range(5)))
    error = await refused(sender, BOB)
    assert "as many messages waiting as may wait (10)" in error.message
    assert error.metadata["waiting_count"] == "14"


async def test_an_unknown_enum_value_and_an_unknown_field_are_refused(sender: SenderService) -> None:
    policy = sender_pb2.DeliveryOptions.FromString(b"\x08\x63")  # policy = 99
    assert {one.field for one in (await refused(sender, ADA, options=policy)).violations} == {"options.policy"}
    newer = sender_pb2.DeliveryOptions.FromString(b"\xf8\x07\x01")  # field 127
    error = await refused(sender, ADA, options=newer)
    assert error.reason == "UNKNOWN_FIELDS"
    assert "options.#127" in {one.field for one in error.violations}
