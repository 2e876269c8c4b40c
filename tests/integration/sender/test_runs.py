"""Runs: paused, resumed, cancelled, tried again, watched; and deliveries listed and read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from sqlalchemy import Connection, select, update

from mailer.client import details_of
from mailer.v1 import sender_pb2
from services.sender import tables
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import SmtpServer, Until, refuse

PEOPLE = [f"p{number}@d{number % 3}.example" for number in range(30)]


@pytest.fixture
async def sender(tmp_path: Path, server: SmtpServer) -> AsyncIterator[SenderService]:
    async with sender_service(tmp_path) as running:
        await running.add_account(server.port)
        yield running


async def pause(sender: SenderService, run_id: str = "run") -> sender_pb2.Run:
    request = sender_pb2.PauseRunRequest(run_id=run_id, reason="a typing error")
    return (await sender.stub.PauseRun(request, timeout=5)).run


async def test_a_paused_run_sends_nothing_more_and_goes_on_when_resumed(
    sender: SenderService, server: SmtpServer
) -> None:
    gate = asyncio.Event()
    server.on("RCPT", [Until(gate), "250 ok"])
    await sender.send(*PEOPLE)
    await server.until(lambda: any(command.startswith("RCPT") for command in server.commands))
    run = await pause(sender)
    assert run.state == sender_pb2.Run.STATE_PAUSED
    assert run.state_reason == "a typing error"
    assert run.counts.sent_count == 0
    gate.set()
    # What was on its way has no leave for its dot any more: the connections end without one.
    await server.until(lambda: server.open_count == 0)
    assert server.accepted == []
    run = await sender.until(lambda run: run.counts.in_progress_count == 0)
    assert run.counts.pending_count == len(PEOPLE)
    await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
    await sender.done()
    assert sorted(mail.recipients[0] for mail in server.accepted) == sorted(PEOPLE)


async def test_a_stored_content_that_cannot_be_used_any_more_pauses_its_run_and_no_other(
    tmp_path: Path, server: SmtpServer
) -> None:
    content = sender_pb2.MessageContent(from_address=sender_pb2.Mailbox(address="a@b.example"), subject="s", text="t")
    async with sender_service(tmp_path) as before:
        await before.send(*PEOPLE, run_id="bad", content=content)
        await before.send(*PEOPLE)
        content.text = "{{ no template }}"
        unusable = {"content": content.SerializeToString()}
        await before.database.write(_spoil_content_of, "bad", unusable)
    async with sender_service(tmp_path) as sender:
        await sender.add_account(server.port)
        await sender.done()
        bad = await sender.run("bad")
        assert bad.state == sender_pb2.Run.STATE_PAUSED
        assert "its content cannot be sent" in bad.state_reason
        assert len(await sender.deliveries("bad")) == len(PEOPLE)
    assert len(server.accepted) == len(PEOPLE)


def _spoil_content_of(connection: Connection, run_id: str, values: dict[str, bytes]) -> None:
    of_run = select(tables.runs.c.content_hash).where(tables.runs.c.run_id == run_id).scalar_subquery()
    connection.execute(update(tables.contents).where(tables.contents.c.content_hash == of_run).values(**values))


async def test_a_cancelled_run_is_over_and_a_late_batch_is_not_sent(sender: SenderService, server: SmtpServer) -> None:
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
    answer = await sender.send(*PEOPLE)
    assert answer.accepted_count == len(PEOPLE)
    run = await sender.run()
    assert run.state == sender_pb2.Run.STATE_CANCELLED
    assert run.counts.cancelled_count == len(PEOPLE)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sender.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
    details = details_of(refused.value)
    assert (details.code, details.metadata["state"]) == (grpc.StatusCode.FAILED_PRECONDITION, "CANCELLED")
    assert server.accepted == []


async def test_a_message_at_its_dot_is_finished_although_its_run_is_cancelled(
    sender: SenderService, server: SmtpServer
) -> None:
    gate = asyncio.Event()
    server.on("DOT", [Until(gate), "250 ok"])
    await sender.send(PEOPLE[0])
    await sender.until(lambda run: run.counts.in_progress_count == 1)
    await server.until(lambda: "DATA" in server.commands)
    await sender.tick()
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
    gate.set()
    run = await sender.until(lambda run: run.counts.in_progress_count == 0)
    # Whatever the book says, it is what the server did.
    assert run.counts.sent_count == len(server.accepted)
    assert run.counts.sent_count + run.counts.cancelled_count == 1


async def test_a_message_on_its_way_is_cancelled_before_its_dot(sender: SenderService, server: SmtpServer) -> None:
    gate = asyncio.Event()
    server.on("RCPT", [Until(gate), "250 ok"])
    await sender.send(*PEOPLE)
    await server.until(lambda: any(command.startswith("RCPT") for command in server.commands))
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
    gate.set()
    run = await sender.until(lambda run: run.counts.in_progress_count == 0)
    assert run.counts.cancelled_count == len(PEOPLE)
    assert server.accepted == []


async def test_only_the_failed_ones_are_tried_again(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", refuse(PEOPLE[0], PEOPLE[1], reply="554 5.5.0 no"))
    await sender.send(*PEOPLE)
    await sender.done()
    server.reset()
    request = sender_pb2.RetryRunRequest(request_id="again", run_id="run")
    assert (await sender.stub.RetryRun(request, timeout=5)).retried_count == 2
    assert (await sender.stub.RetryRun(request, timeout=5)).retried_count == 2  # the stored answer
    await sender.done()
    assert sorted(mail.recipients[0] for mail in server.accepted) == sorted(PEOPLE)


async def test_a_watched_run_is_shown_at_once_and_to_its_end(sender: SenderService) -> None:
    await sender.send(*PEOPLE)
    call = sender.stub.WatchRun(sender_pb2.WatchRunRequest(run_id="run"), timeout=20)
    seen = [update.run async for update in call]
    assert seen[0].counts.total_count == len(PEOPLE)
    assert seen[-1].state == sender_pb2.Run.STATE_DONE
    assert seen[-1].counts.sent_count == len(PEOPLE)


async def test_deliveries_are_listed_in_pages_by_state_and_address(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", refuse(PEOPLE[3]))
    await sender.send(*PEOPLE, campaign_id="c")
    await sender.done()
    first = await sender.stub.ListDeliveries(sender_pb2.ListDeliveriesRequest(campaign_id="c", page_size=20), timeout=5)
    rest = await sender.stub.ListDeliveries(
        sender_pb2.ListDeliveriesRequest(campaign_id="c", page_size=20, page_token=first.next_page_token), timeout=5
    )
    assert [one.address for one in (*first.deliveries, *rest.deliveries)] == PEOPLE
    assert not rest.next_page_token
    failed = await sender.stub.ListDeliveries(
        sender_pb2.ListDeliveriesRequest(run_id="run", states=[sender_pb2.DELIVERY_STATE_FAILED]), timeout=5
    )
    assert [one.address for one in failed.deliveries] == [PEOPLE[3]]
    by_address = await sender.stub.ListDeliveries(
        sender_pb2.ListDeliveriesRequest(address=PEOPLE[5].upper()), timeout=5
    )
    assert [one.address for one in by_address.deliveries] == [PEOPLE[5]]


async def test_a_delivery_is_shown_with_every_attempt(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", refuse(PEOPLE[0]))
    answer = await sender.send(PEOPLE[0])
    await sender.done()
    request = sender_pb2.GetDeliveryRequest(delivery_id=answer.delivery_ids[0])
    found = await sender.stub.GetDelivery(request, timeout=5)
    (attempt,) = found.attempts
    assert (attempt.stage, attempt.reply.code, attempt.reply.enhanced_code) == ("RCPT", 550, "5.1.1")
    assert attempt.outcome == sender_pb2.Attempt.OUTCOME_FAILED
    assert found.delivery.message_id.endswith("@sender.example>")


@pytest.mark.parametrize("method", ["GetRun", "PauseRun", "ResumeRun", "WatchRun", "RetryRun"])
async def test_a_run_that_nobody_knows_is_not_found(sender: SenderService, method: str) -> None:
    request_type = getattr(sender_pb2, f"{method}Request")
    known = {"request_id": "r"} if "request_id" in request_type.DESCRIPTOR.fields_by_name else {}
    call = getattr(sender.stub, method)(request_type(run_id="nobody", **known), timeout=5)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await (call.read() if method == "WatchRun" else call)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_counts_are_those_of_the_rows(sender: SenderService, server: SmtpServer) -> None:
    server.on("RCPT", refuse(PEOPLE[0], PEOPLE[7]))
    await sender.send(*PEOPLE)
    run = await sender.done()
    states = list((await sender.states()).values())
    assert run.counts.sent_count == states.count("SENT")
    assert run.counts.failed_count == states.count("FAILED") == 2
    assert run.counts.total_count == len(states)
