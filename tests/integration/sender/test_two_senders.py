"""Two senders on one database: every message belongs to one of them, and a stopped one is not robbed."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from mailer.v1 import sender_pb2
from services.sender.worker import Worker
from tests.fakes.sender_service import sender_service
from tests.fakes.smtp_server import SmtpServer, Until

PEOPLE = sorted(f"p{number:04}@d{number % 7}.example" for number in range(400))
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
AT_LEAST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE)


@pytest.fixture
async def server() -> AsyncIterator[SmtpServer]:
    async with SmtpServer() as running:
        yield running


def recipients(server: SmtpServer) -> list[str]:
    return sorted(mail.recipients[0] for mail in server.accepted)


async def test_both_send_and_nobody_gets_two(tmp_path: Path, server: SmtpServer) -> None:
    async with sender_service(tmp_path) as one, sender_service(tmp_path) as other:
        await one.add_account(server.port)
        await asyncio.gather(
            *(
                sender.send(*PEOPLE[start : start + 100], options=AT_MOST_ONCE, request_id=f"batch-{start}")
                for start, sender in zip(range(0, 400, 100), [one, other] * 2, strict=True)
            )
        )
        await one.done()
        assert recipients(server) == PEOPLE
        assert workers_that_sent(tmp_path) == 2


def workers_that_sent(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "mailer.db")) as reader:
        (count,) = reader.execute("SELECT count(DISTINCT worker) FROM send_logs").fetchone()
    return int(count)


async def test_what_one_has_paused_the_other_does_not_send(tmp_path: Path, server: SmtpServer) -> None:
    gate = asyncio.Event()
    server.on("RCPT", [Until(gate), "250 ok"])
    async with sender_service(tmp_path) as one, sender_service(tmp_path) as other:
        await one.add_account(server.port)
        await one.send(*PEOPLE, options=AT_MOST_ONCE)
        await server.until(lambda: server.open_count >= 2)
        await one.stub.PauseRun(sender_pb2.PauseRunRequest(run_id="run"), timeout=5)
        gate.set()
        await server.until(lambda: server.open_count == 0)
        assert server.accepted == []
        await other.stub.ResumeRun(sender_pb2.ResumeRunRequest(run_id="run"), timeout=5)
        await one.done()
        assert recipients(server) == PEOPLE


HOLD = """
import asyncio, sys
from pathlib import Path
from mailer.clock import SystemClock
from mailer.database import Database
from services.sender.worker import Worker

async def main():
    database = await Database.open(sys.argv[1], clock=SystemClock())
    worker = Worker(database, SystemClock(), directory=Path(sys.argv[2]))
    await worker.start()
    Path(sys.argv[3]).write_text(worker.worker_id)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_stopped_worker_is_not_robbed_and_a_killed_one_is_rescued_at_once(
    tmp_path: Path, server: SmtpServer
) -> None:
    """SIGSTOP for however long is no death; SIGKILL is one at the same instant."""
    async with sender_service(tmp_path) as sender:
        await sender.add_account(server.port, disabled=True)
        await sender.send(*PEOPLE[:10], options=AT_MOST_ONCE)
        holder = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            HOLD,
            f"sqlite:///{tmp_path}/mailer.db",
            str(tmp_path / "mailer.db.workers"),
            str(tmp_path / "holder"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert holder.stdout is not None
        await holder.stdout.readuntil(b"ready\n")
        worker_id = (tmp_path / "holder").read_text()
        claim_for(tmp_path, worker_id)
        os.kill(holder.pid, signal.SIGSTOP)
        rescuer = Worker(sender.database, SystemClock(), directory=tmp_path / "mailer.db.workers")
        await rescuer.start()
        for _ in range(3):
            assert (await rescuer.rescue()).returned == 0
        assert set((await sender.states()).values()) == {"CLAIMED", "DOT_INTENT"}
        os.kill(holder.pid, signal.SIGKILL)
        await holder.wait()
        await sender.until(lambda run: run.counts.in_progress_count == 0)
        states = sorted((await sender.states()).values())
        assert states == ["PENDING"] * 5 + ["UNKNOWN"] * 5
        rescuer.stop()


def claim_for(folder: Path, worker_id: str) -> None:
    """Book five claims and five intents of a worker, as if it had made them."""
    with closing(sqlite3.connect(folder / "mailer.db", timeout=5)) as connection, connection:
        connection.execute(
            "UPDATE deliveries SET worker = ?, token = token + 1,"
            " state = CASE WHEN id % 2 THEN 'claimed' ELSE 'dot_intent' END",
            (worker_id,),
        )
        for state in ("claimed", "dot_intent"):
            connection.execute("INSERT INTO run_counts VALUES ('run', ?, 5)", (state,))
        connection.execute("UPDATE run_counts SET delivery_count = 0 WHERE state = 'pending'")
