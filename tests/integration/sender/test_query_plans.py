"""No statement of the sender looks at more rows the more old ones there are.

A sender does here all that it does to its book, and is asked all that can be asked of it; every statement that reached
SQLite on the way is then explained. Where a plan reads or sorts a table that grows for ever, the test names it.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from mailer.database.identity import renew_incarnation
from mailer.database.types import to_microseconds
from mailer.v1 import sender_pb2
from services.sender import book, doubt, outbox, removal
from services.sender.counts import Changes
from services.sender.dots import AcceptedDot, DotRecord
from services.sender.entries import Intent
from services.sender.tables import workers
from services.sender.worker import _take_over
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import PATIENCE, SenderService, sender_service
from tests.fakes.smtp_server import Accept, Drop, SmtpServer
from tests.query_plans import Tables, indexes, pretend_statistics, recorded, unbounded

BOOK = Tables(
    big=frozenset(
        {"contents", "deliveries", "run_counts", "send_logs", "sender_requests", "sender_runs", "suppressions"}
    ),
    open_work=frozenset(
        {
            "deliveries_deferred",
            "deliveries_deferred_of_run",
            "deliveries_in_progress",
            "deliveries_pending",
            "sender_runs_unfinished",
        }
    ),
    of_one=frozenset({"deliveries_troubled", "sqlite_autoindex_deliveries_1", "sqlite_autoindex_send_logs_1"}),
    paged=frozenset({"deliveries_of_run", "deliveries_without_mail"}),
    listed=frozenset({"sqlite_autoindex_suppressions_1"}),
    # Of all states together, and of the one in which nearly all deliveries are.
    numbered=frozenset({"deliveries.id > ? ORDER BY", "deliveries.id > ? AND deliveries.state = ? ORDER BY"}),
)
# What ANALYZE says of a database with 10,000,000 old deliveries in 100,000 runs.
STATISTICS = {
    "deliveries_deferred": "10 1",
    "deliveries_deferred_of_run": "10 10 1",
    "deliveries_in_progress": "10 10",
    "deliveries_of_address": "10000000 2",
    "deliveries_of_run": "10000000 100 1",
    "deliveries_pending": "10 10 1",
    "deliveries_troubled": "200000 2 2 1",
    "deliveries_without_mail": "200000 100000 1",
    "sqlite_autoindex_deliveries_1": "10000000 1",
    "sqlite_autoindex_run_counts_1": "200000 2 1",
    "sqlite_autoindex_send_logs_1": "10000000 1",
    "sqlite_autoindex_sender_requests_1": "100000 1",
    "sqlite_autoindex_sender_runs_1": "100000 1",
    "sender_requests_by_time": "100000 1",
    "sender_runs_of_campaign": "100000 1",
    "sender_runs_unfinished": "10 1",
    "sender_runs_with_rows": "100000 1 1",
}
RETENTION = timedelta(days=7)
CAPS = sender_pb2.AccountCaps(per_hour_count=1000, per_day_count=1000)
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
ADA, NOBODY, FULL = "ada@one.example", "nobody@two.example", "full@three.example"
_Resolve = sender_pb2.ResolveUnknownRequest
_FILTERS = tuple(product(("", "spring"), ("", "campaign"), ("", ADA)))


@pytest.fixture
async def statements(
    tmp_path: Path, clock: FakeClock, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """Return every statement of a sender at work; its database is in the folder of the test."""
    with recorded(monkeypatch) as found:
        async with sender_service(tmp_path, clock, delivery_retention=RETENTION) as sender:
            await sender.add_account(server.port, caps=CAPS)
            await send(sender, server)
            await decide(sender)
            await ask(sender)
            await sender.database.write(come_back_to_it)
            await restore(sender)
            await grow_old(sender, clock)
        yield found


async def send(sender: SenderService, server: SmtpServer) -> None:
    """Let every outcome happen, in runs of their own."""
    answers = {"nobo": "550 5.1.1 who", "full": "452 4.2.2 full"}
    server.on("RCPT", lambda _, argument: answers.get(argument[4:8], "250 ok"))
    batch = {"run_id": "spring", "campaign_id": "campaign"}
    await sender.send(ADA, NOBODY, FULL, **batch)
    await sender.until(lambda run: run.counts.sent_count + run.counts.failed_count == 2, "spring")
    await sender.send(NOBODY, run_id="suppressed")
    await sender.done("suppressed")
    server.on("DOT", [Accept(), Drop()], times=1)
    await sender.send(ADA, run_id="doubtful", options=AT_MOST_ONCE)
    await sender.until(lambda run: run.counts.unknown_count == 1, "doubtful")
    for _ in range(2):
        await sender.send(ADA, run_id="repeated", request_id="again")
    await sender.done("repeated")


async def decide(sender: SenderService) -> None:
    """Decide all that a person can decide."""
    stub = sender.stub
    await stub.PauseRun(sender_pb2.PauseRunRequest(run_id="spring"), timeout=5)
    await stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="spring"), timeout=5)
    await stub.RetryRun(sender_pb2.RetryRunRequest(request_id="r", run_id="spring", include_expired=True), timeout=5)
    await stub.ResolveUnknown(_resolution("a", run_id="doubtful", resolution=_Resolve.RESOLUTION_RETRY), timeout=5)
    await sender.done("doubtful")
    suppress = sender_pb2.AddSuppressionsRequest(request_id="s", addresses=[FULL], reason="asked for it")
    await stub.AddSuppressions(suppress, timeout=5)
    await stub.RemoveSuppression(sender_pb2.RemoveSuppressionRequest(address=FULL), timeout=5)
    await stub.ListSuppressions(sender_pb2.ListSuppressionsRequest(), timeout=5)
    await stub.CancelRun(sender_pb2.CancelRunRequest(run_id="never-begun"), timeout=5)
    unused = await sender.add_account(9, "unused")
    await stub.DeleteAccount(sender_pb2.DeleteAccountRequest(account_id=unused), timeout=5)


async def ask(sender: SenderService) -> None:
    """Ask for lists with every filter, and for what is in them."""
    shown = (await sender.deliveries("spring"))[ADA]
    await sender.stub.GetDelivery(sender_pb2.GetDeliveryRequest(delivery_id=shown.delivery_id), timeout=5)
    known = [number for number in sender_pb2.DeliveryState.values() if number]
    for (run_id, campaign_id, address), states in product(_FILTERS, ((), *((one,) for one in known), known[:4])):
        request = sender_pb2.ListDeliveriesRequest(
            run_id=run_id, campaign_id=campaign_id, address=address, states=states, page_size=1
        )
        page = await sender.stub.ListDeliveries(request, timeout=5)
        request.page_token = page.next_page_token
        if request.page_token:
            await sender.stub.ListDeliveries(request, timeout=5)


def come_back_to_it(connection: Connection) -> None:
    """Take back what was claimed, as after a stop, a crash, a restore, a stall and the guard."""
    now, changes = FakeClock().now(), Changes()
    keys = ("key-of-one", "key-of-another")
    claimed = outbox.claim(connection, run_id="spring", most=10, worker="w", now=now, changes=changes)
    ghost = outbox.Claimed(0, 0, keys[0], "spring", "campaign", "", "", "", "", b"", 0, "", 0, None, now, now)
    outbox.release(connection, [*claimed, ghost], now=now, changes=changes)
    outbox.postpone(connection, [outbox.Postponed(ghost._replace(id=1), now, "later")], now=now, changes=changes)
    outbox.expire_oldest(connection, run_id="spring", most=10, now=now, changes=changes)
    outbox.promote_due(connection, now=now, most=10, changes=changes)
    outbox.take_back_all(connection, "w", now)
    doubt.take_back_refused(connection, keys, now=now, changes=changes)
    book.write_intents(
        connection, [Intent(ghost.id, ghost.token, ghost.run_id, "account", to_microseconds(now))], changes
    )
    accepted = AcceptedDot(keys[1], 1, 250, "", "ok", now)
    _take_over(connection, {"w": None, "v": DotRecord(frozenset({(keys[0], 1)}), (accepted,))}, now)
    changes.apply(connection)


async def restore(sender: SenderService) -> None:
    """Let the database be another one, as after a restore, and the sender begin anew in it."""
    (before,) = await sender.database.read(_worker_ids)
    await sender.database.write(renew_incarnation, sender.clock.now())
    await sender.database.probe()
    async with asyncio.timeout(PATIENCE):
        while await sender.database.read(_worker_ids) == [before]:
            await sender.tick()
    await sender.tick()


def _worker_ids(connection: Connection) -> list[str]:
    return list(connection.execute(select(workers.c.worker_id)).scalars())


async def grow_old(sender: SenderService, clock: FakeClock) -> None:
    """Let what was forgotten be forgotten, and the runs be over for longer than they are kept."""
    await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="spring"), timeout=5)
    await sender.until(lambda run: run.counts.in_progress_count == 0, "spring")
    while await sender.database.read(removal.has_ended):
        await sender.advance(15)
        await sender.tick()
    clock.step_wall_clock(RETENTION.total_seconds())
    while not (await sender.run("spring")).HasField("removal_time"):
        await sender.advance(15)
        await sender.tick()


def _resolution(request_id: str, **more: Any) -> sender_pb2.ResolveUnknownRequest:
    return sender_pb2.ResolveUnknownRequest(request_id=request_id, **more)


@pytest.mark.parametrize("statistics", [{}, STATISTICS], ids=["as it is", "with the statistics of a large one"])
async def test_no_statement_looks_at_more_rows_the_more_there_are(
    tmp_path: Path, statements: dict[str, Any], statistics: dict[str, str]
) -> None:
    path = tmp_path / "mailer.db"
    if statistics:
        pretend_statistics(path, statistics)
    assert unbounded(path, statements, BOOK) == {}


async def test_no_index_can_be_left_out(tmp_path: Path, statements: dict[str, Any]) -> None:
    path = tmp_path / "mailer.db"
    unneeded = [index for index in indexes(path, BOOK) if not unbounded(path, statements, BOOK, without=index)]
    assert unneeded == []
