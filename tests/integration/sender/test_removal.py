"""Old deliveries are removed when the operator wants it: only of runs that are over, and nobody gets a second copy."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from sqlalchemy import Connection, func, select

from mailer.client import details_of
from mailer.v1 import sender_pb2
from services.sender import removal, tables
from services.sender.remover import FIRST_BITE, LEAST_BITE, MOST_BITE, next_bite
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Accept, Drop, SmtpServer

KEPT = timedelta(days=30)
ADA, BOB = "ada@one.example", "bob@two.example"
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> AsyncIterator[SenderService]:
    async with sender_service(tmp_path, clock, delivery_retention=KEPT) as running:
        await running.add_account(server.port)
        yield running


async def passes(sender: SenderService, clock: FakeClock, span: timedelta) -> None:
    """Let so much time pass, and what has become due happen."""
    await look(sender)
    clock.step_wall_clock(span.total_seconds())
    await look(sender)


async def look(sender: SenderService) -> None:
    """Let the sender look for what is over, and do what it finds."""
    await wait(sender)
    async with asyncio.timeout(30):
        while await sender.database.read(is_anything_due, sender.clock.now() - KEPT):
            await wait(sender)


async def wait(sender: SenderService) -> None:
    """Let two minutes pass."""
    for _ in range(60):
        await sender.advance(2)
        await sender.tick()


def is_anything_due(connection: Connection, ended_before: datetime) -> bool:
    return removal.has_ended(connection) or removal.is_due(connection, ended_before=ended_before)


async def rows(sender: SenderService) -> tuple[int, int]:
    """Return how many deliveries and how many lines of their logs there are."""

    def read(connection: Connection) -> tuple[int, int]:
        found = (
            connection.execute(select(func.count()).select_from(table))
            for table in (tables.deliveries, tables.send_logs)
        )
        return next(found).scalar_one(), next(found).scalar_one()

    return await sender.database.read(read)


async def test_a_run_that_is_over_for_long_keeps_its_counts_only(sender: SenderService, clock: FakeClock) -> None:
    await sender.send(ADA, BOB)
    before = await sender.done()
    await passes(sender, clock, KEPT)
    run = await sender.run()
    assert await rows(sender) == (0, 0)
    assert (run.state, run.counts) == (sender_pb2.Run.STATE_DONE, before.counts)
    assert run.HasField("removal_time")
    listed = await sender.stub.ListDeliveries(sender_pb2.ListDeliveriesRequest(run_id="run"), timeout=5)
    assert (list(listed.deliveries), listed.removal_time) == ([], run.removal_time)


async def test_a_run_of_many_is_removed_bite_by_bite(sender: SenderService, clock: FakeClock) -> None:
    await sender.send(*(f"p{number}@one.example" for number in range(2 * FIRST_BITE + 1)))
    await sender.done()
    await passes(sender, clock, KEPT)
    assert await rows(sender) == (0, 0)


async def test_what_is_younger_stays(sender: SenderService, clock: FakeClock) -> None:
    await sender.send(ADA)
    await sender.done()
    await passes(sender, clock, KEPT - timedelta(hours=1))
    assert await rows(sender) == (1, 1)
    assert not (await sender.run()).HasField("removal_time")


async def test_without_the_setting_everything_stays(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> None:
    async with sender_service(tmp_path, clock) as sender:
        await sender.add_account(server.port)
        await sender.send(ADA)
        await sender.done()
        await wait(sender)
        clock.step_wall_clock(timedelta(days=3650).total_seconds())
        await wait(sender)
        assert await rows(sender) == (1, 1)


async def test_what_is_uncertain_keeps_its_run_until_a_person_has_decided(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("DOT", [Accept(), Drop()], times=1)
    await sender.send(ADA, options=AT_MOST_ONCE)
    await sender.done()
    await passes(sender, clock, KEPT)
    assert await sender.states() == {ADA: "UNKNOWN"}
    decided = sender_pb2.ResolveUnknownRequest(
        request_id="r", run_id="run", resolution=sender_pb2.ResolveUnknownRequest.RESOLUTION_SENT
    )
    await sender.stub.ResolveUnknown(decided, timeout=5)
    await look(sender)
    assert await rows(sender) == (0, 0)


async def test_a_run_that_somebody_paused_stays(sender: SenderService, clock: FakeClock) -> None:
    await sender.send(ADA)
    await sender.done()
    await sender.stub.PauseRun(sender_pb2.PauseRunRequest(run_id="run"), timeout=5)
    await passes(sender, clock, KEPT)
    assert await sender.states() == {ADA: "SENT"}


async def test_a_run_that_goes_on_stays_however_late_it_is(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("RCPT", "450 4.2.1 later")
    await sender.send(ADA)
    await sender.until(lambda run: run.counts.deferred_count == 1)
    assert not await sender.database.read(removal.has_ended)
    later = clock.now() + 2 * KEPT
    assert await sender.database.write(removal.take_bite, ended_before=later, most=10, now=later) == {}
    assert await sender.states() == {ADA: "DEFERRED"}


async def test_a_run_that_was_tried_again_is_over_from_then_on(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    server.on("RCPT", "550 5.1.1 who", times=1)
    await sender.send(ADA)
    await sender.done()
    await sender.stub.RemoveSuppression(sender_pb2.RemoveSuppressionRequest(address=ADA), timeout=5)
    await passes(sender, clock, KEPT - timedelta(days=1))
    await sender.stub.RetryRun(sender_pb2.RetryRunRequest(request_id="r", run_id="run"), timeout=5)
    await sender.until(lambda run: run.counts.sent_count == 1)
    await passes(sender, clock, timedelta(days=1))
    assert await sender.states() == {ADA: "SENT"}


async def test_nothing_more_is_taken_for_it_so_that_nobody_gets_a_second_copy(
    sender: SenderService, server: SmtpServer, clock: FakeClock
) -> None:
    await sender.send(ADA)
    await sender.done()
    await passes(sender, clock, KEPT)
    for call in (
        sender.send(ADA),
        sender.stub.RetryRun(sender_pb2.RetryRunRequest(request_id="r", run_id="run"), timeout=5),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        details = details_of(refused.value)
        assert (details.code, details.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_REMOVED")
        assert "in a new run" in details.message
    assert len(server.mails_to(ADA)) == 1


async def test_suppressions_stay(sender: SenderService, server: SmtpServer, clock: FakeClock) -> None:
    server.on("RCPT", "550 5.1.1 who", times=1)
    await sender.send(ADA)
    await sender.done()
    await passes(sender, clock, KEPT)
    assert await rows(sender) == (0, 0)
    assert await sender.suppressed() == [ADA]


async def test_one_bite_is_of_one_large_run_or_of_many_small_ones(sender: SenderService, clock: FakeClock) -> None:
    for run_id in ("large", "one", "two"):
        await sender.send(*(f"p{number}@one.example" for number in range(7 if run_id == "large" else 1)), run_id=run_id)
        await sender.done(run_id)
        await sender.database.write(removal.note_ended, most=10, now=clock.now())
        await sender.advance(1)
    later = clock.now() + KEPT
    bites = [await sender.database.write(removal.take_bite, ended_before=later, most=5, now=later) for _ in range(4)]
    assert bites == [{"large": 5}, {"large": 2, "one": 1}, {"two": 1}, {}]


@pytest.mark.parametrize(
    ("present", "seconds", "expected"),
    [(40, 0.1, 20), (LEAST_BITE, 0.1, LEAST_BITE), (40, 0.007, 40), (40, 0.001, 80), (MOST_BITE, 0.001, MOST_BITE)],
)
def test_a_bite_is_as_large_as_can_be_taken_in_a_few_milliseconds(present: int, seconds: float, expected: int) -> None:
    assert next_bite(present, seconds) == expected
