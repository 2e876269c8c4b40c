"""The process that writes for the sender is killed again and again while a campaign goes out: the books stay exact."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

import pytest
from grpc.aio import AioRpcError

from mailer.client import details_of
from mailer.v1 import sender_pb2
from services.sender.__main__ import PORTABLE_MODULES
from tests.fakes.clock import FakeClock
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_connection import path_of
from tests.fakes.smtp_server import DEFAULT, Script, Session, SmtpServer, Until
from tests.fakes.smtp_steps import Answer

ROOT = Path(__file__).parents[3]
PEOPLE = sorted(f"p{number:03}@d{number % 7}.example" for number in range(400))
GREYLISTED = set(PEOPLE[::10])
CONNECTIONS = 8
MOST_KILLS = 10
POLICIES = {
    "at_most_once": sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE,
    "at_least_once": sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE,
}


@pytest.fixture
async def sender(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> AsyncIterator[SenderService]:
    async with sender_service(tmp_path, clock, has_writer_process=True) as running:
        await running.add_account(server.port, max_connection_count=CONNECTIONS)
        yield running


async def at_work(sender: SenderService) -> int:
    """Return the id of the writer's process once it takes tasks."""
    process = sender.database._writer_process
    assert process is not None
    async with asyncio.timeout(30):
        while not process._is_ready:
            await sender.tick()
    assert process.process_id is not None
    return process.process_id


@asynccontextmanager
async def killing(sender: SenderService, gate: asyncio.Event) -> AsyncIterator[list[int]]:
    """Kill the process a moment after it has begun to write, again and again; messages go out only meanwhile."""
    killed: list[int] = []
    random = Random(1)

    async def kill() -> None:
        while len(killed) < MOST_KILLS:
            process_id = await at_work(sender)
            gate.set()
            await asyncio.sleep(random.uniform(0.005, 0.04))
            os.kill(process_id, signal.SIGKILL)
            gate.clear()
            killed.append(process_id)
            while sender.database.writer_process_id == process_id:
                await sender.tick()
        gate.set()

    task = asyncio.create_task(kill())
    try:
        yield killed
        await task
    finally:
        task.cancel()


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_campaign_goes_out_exactly_although_its_writer_dies_all_the_time(
    sender: SenderService, server: SmtpServer, policy: str
) -> None:
    gate = asyncio.Event()
    server.on("RCPT", behind(gate))
    options = sender_pb2.DeliveryOptions(policy=POLICIES[policy])
    before = sender.database.incarnation
    async with killing(sender, gate) as killed:
        for start in range(0, len(PEOPLE), 50):
            await sender.send(*PEOPLE[start : start + 50], options=options)
        async with asyncio.timeout(60):
            while len(killed) < MOST_KILLS:
                await sender.tick()
    run = await sender.finish()
    assert sorted(mail.recipients[0] for mail in server.accepted) == PEOPLE, "nobody is left out, nobody gets two"
    assert run.counts.sent_count == run.counts.total_count == len(PEOPLE)
    assert len(set(killed)) == MOST_KILLS
    assert await sender.health() == "SERVING"
    assert sender.database.incarnation == before
    assert logged(sender) == Counter(
        {(address, "sent"): 1 for address in PEOPLE} | {(address, "deferred"): 1 for address in GREYLISTED}
    )
    for address, attempts, worker, flagged in deliveries(sender):
        assert (attempts, worker, flagged) == (2 if address in GREYLISTED else 1, None, 0), address


def behind(gate: asyncio.Event) -> Script:
    """Let recipients wait for the gate, and some of them come a second time."""
    seen: set[str] = set()

    def answer(_: Session, argument: str) -> Answer:
        address = path_of(argument)
        if address in GREYLISTED and address not in seen:
            seen.add(address)
            return [Until(gate), "451 4.7.1 Greylisted, try again in 300 seconds"]
        return [Until(gate), DEFAULT]

    return answer


def logged(sender: SenderService) -> Counter[tuple[str, str]]:
    """Return how often each outcome is in the log for each address."""
    with closing(sqlite3.connect(sender.database.location.path)) as reader:
        return Counter(
            reader.execute(
                "SELECT address, outcome FROM send_logs"
                " JOIN deliveries ON log_key BETWEEN delivery_key || ':' AND delivery_key || ';'"
            ).fetchall()
        )


def deliveries(sender: SenderService) -> list[tuple[str, int, str | None, int]]:
    with closing(sqlite3.connect(sender.database.location.path)) as reader:
        return reader.execute("SELECT address, attempt_count, worker, possible_duplicate FROM deliveries").fetchall()


async def test_a_batch_whose_writer_dies_is_stored_and_answered(sender: SenderService, server: SmtpServer) -> None:
    os.kill(await at_work(sender), signal.SIGKILL)
    answer = await sender.send(*PEOPLE[:5])
    assert answer.accepted_count == 5
    await sender.done()


async def test_errors_of_the_contract_come_through_it(tmp_path: Path, clock: FakeClock, server: SmtpServer) -> None:
    async with sender_service(tmp_path, clock, has_writer_process=True, queue_limit=1) as sender:
        await at_work(sender)
        await sender.send(*PEOPLE[:2])
        with pytest.raises(AioRpcError, match="as may wait") as refused:
            await sender.send(*PEOPLE[2:4])
        details = details_of(refused.value)
        assert (details.reason, details.metadata["run_id"]) == ("QUEUE_FULL", "run")
        assert details.retry_after is not None


async def test_one_that_is_stopped_for_a_while_is_waited_for(sender: SenderService, server: SmtpServer) -> None:
    process_id = await at_work(sender)
    os.kill(process_id, signal.SIGSTOP)
    try:
        sending = asyncio.create_task(sender.send(*PEOPLE[:5]))
        for _ in range(50):
            await sender.tick()
        assert not sending.done()
        assert not server.accepted
    finally:
        os.kill(process_id, signal.SIGCONT)
    await sending
    await sender.done()
    assert sender.database.writer_process_id == process_id
    assert len(server.accepted) == 5


def test_it_imports_no_more_than_it_needs() -> None:
    names = ["mailer.database.writer_main", "mailer.database.probes", *PORTABLE_MODULES]
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(names)}; print(*sys.modules)"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    # Its parent has all of them, which are 30 MB.
    assert not {"grpc", "structlog", "alembic", "pydantic", "cryptography", "prometheus_client"} & set(
        found.stdout.split()
    )
