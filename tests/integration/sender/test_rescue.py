"""What a dead worker left behind: taken over at once, and from nobody who lives."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from mailer.clock import SystemClock
from mailer.v1 import sender_pb2
from services.sender.worker import Worker
from tests.fakes.sender_service import SenderService, sender_service
from tests.fakes.smtp_server import Accept, Drop, SmtpServer, Until

PEOPLE = [f"p{number}@one.example" for number in range(10)]
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)
AT_LEAST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_LEAST_ONCE)
HOLD = """
import asyncio, sys
from pathlib import Path
from mailer.clock import SystemClock
from mailer.database import Database
from mailer.database.types import to_microseconds
from services.sender.replies import Reply
from services.sender.worker import Worker

async def main():
    database = await Database.open(sys.argv[1], clock=SystemClock())
    worker = Worker(database, SystemClock(), directory=Path(sys.argv[2]))
    await worker.start()
    Path(sys.argv[3]).write_text(worker.worker_id)
    print("ready", flush=True)
    for line in sys.stdin:
        phase, key, token = line.split()
        dot = worker.dots.write(key, int(token))
        if phase == "accepted":
            dot.accepted(Reply(250, ("2.0.0 taken",)), to_microseconds(SystemClock().now()))
        elif phase == "refused":
            dot.refused()
        print("marked", flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def sender(tmp_path: Path) -> AsyncIterator[SenderService]:
    """Return a sender that has nobody to send through: it only rescues."""
    async with sender_service(tmp_path) as running:
        yield running


@asynccontextmanager
async def holder(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker that has claimed the first five of ten, and written the intents of the others."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLD,
        f"sqlite:///{folder}/mailer.db",
        str(folder / "mailer.db.workers"),
        str(folder / "holder"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readuntil(b"ready\n")
        claim_for(folder, (folder / "holder").read_text())
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def claim_for(folder: Path, worker_id: str) -> None:
    with closing(sqlite3.connect(folder / "mailer.db", timeout=5)) as connection, connection:
        connection.execute(
            "UPDATE deliveries SET worker = ?, token = token + 1,"
            " state = CASE WHEN id <= 5 THEN 'claimed' ELSE 'dot_intent' END",
            (worker_id,),
        )
        connection.execute("UPDATE run_counts SET delivery_count = 0 WHERE state = 'pending'")
        connection.execute("INSERT INTO run_counts VALUES ('run', 'claimed', 5), ('run', 'dot_intent', 5)")


async def mark(process: asyncio.subprocess.Process, folder: Path, phase: str, *rows: int) -> None:
    """Let the holder note that the messages in these rows are at their dot, or what the server answered."""
    assert process.stdin is not None
    assert process.stdout is not None
    with closing(sqlite3.connect(folder / "mailer.db", timeout=5)) as connection:
        for row in rows:
            found = connection.execute("SELECT delivery_key, token FROM deliveries WHERE id = ?", (row,)).fetchone()
            process.stdin.write(f"{phase} {found[0]} {found[1]}\n".encode())
            await process.stdout.readuntil(b"marked\n")


async def killed(process: asyncio.subprocess.Process, sender: SenderService) -> list[str]:
    """Kill the holder; return the states once it has been rescued from."""
    process.kill()
    await process.wait()
    await sender.until(lambda run: run.counts.in_progress_count == 0)
    return sorted((await sender.states()).values())


async def test_a_stopped_worker_is_not_robbed(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        rescuer = Worker(sender.database, SystemClock(), directory=tmp_path / "mailer.db.workers")
        await rescuer.start()
        for _ in range(3):
            assert (await rescuer.rescue()).returned == 0
        assert set((await sender.states()).values()) == {"CLAIMED", "DOT_INTENT"}
        rescuer.stop()


async def test_at_most_once_what_was_at_its_dot_is_unknown(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        await mark(process, tmp_path, "written", 6, 7, 8, 9, 10)
        assert await killed(process, sender) == ["PENDING"] * 5 + ["UNKNOWN"] * 5


async def test_an_intent_whose_dot_was_not_written_is_no_doubt(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        await mark(process, tmp_path, "written", 6)
        await mark(process, tmp_path, "refused", 7)
        assert await killed(process, sender) == ["PENDING"] * 9 + ["UNKNOWN"]
    assert (await sender.states())[PEOPLE[5]] == "UNKNOWN"


async def test_what_was_accepted_and_not_yet_booked_is_sent(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        await mark(process, tmp_path, "accepted", 6, 7)
        assert await killed(process, sender) == ["PENDING"] * 8 + ["SENT"] * 2
    (attempt,) = await sender.attempts(PEOPLE[5])
    assert (attempt.reply.code, attempt.reply.enhanced_code, attempt.reply.text) == (250, "2.0.0", "taken")


@pytest.mark.parametrize("harm", [b"", b"mailer dots 1\nanother start of the machine\n"])
async def test_where_the_notes_are_lost_every_intent_is_in_doubt(
    tmp_path: Path, sender: SenderService, harm: bytes
) -> None:
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        notes = tmp_path / "mailer.db.workers" / f"{(tmp_path / 'holder').read_text()}.dots"
        notes.unlink()
        if harm:
            notes.write_bytes(harm)
        assert await killed(process, sender) == ["PENDING"] * 5 + ["UNKNOWN"] * 5


async def test_without_its_lock_nobody_believes_the_notes_of_a_silent_worker(
    tmp_path: Path, sender: SenderService
) -> None:
    """It may only be stopped, at an instant before a dot that it is going to write."""
    await sender.send(*PEOPLE, options=AT_MOST_ONCE)
    async with holder(tmp_path) as process:
        (tmp_path / "mailer.db.workers" / f"{(tmp_path / 'holder').read_text()}.lock").unlink()
        with closing(sqlite3.connect(tmp_path / "mailer.db", timeout=5)) as connection, connection:
            connection.execute("UPDATE sender_workers SET heartbeat_time = 0 WHERE process_id = ?", (process.pid,))
        await sender.until(lambda run: run.counts.in_progress_count == 0)
        assert sorted((await sender.states()).values()) == ["PENDING"] * 5 + ["UNKNOWN"] * 5


async def test_at_least_once_it_is_sent_again_and_flagged(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_LEAST_ONCE)
    async with holder(tmp_path) as process:
        await mark(process, tmp_path, "written", 6, 7, 8, 9, 10)
        assert await killed(process, sender) == ["PENDING"] * 10
    flagged = [one.possible_duplicate for one in (await sender.deliveries()).values()]
    assert flagged == [False] * 5 + [True] * 5


async def test_of_a_cancelled_run_nothing_is_sent_again(tmp_path: Path, sender: SenderService) -> None:
    await sender.send(*PEOPLE, options=AT_LEAST_ONCE)
    async with holder(tmp_path) as process:
        await mark(process, tmp_path, "written", 6, 7)
        await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
        assert await killed(process, sender) == ["CANCELLED"] * 8 + ["UNKNOWN"] * 2


async def test_a_lost_answer_is_uncertain_although_the_run_was_cancelled(sender: SenderService) -> None:
    gate = asyncio.Event()
    async with SmtpServer() as server:
        server.on("DOT", [Accept(), Until(gate), Drop()])
        await sender.add_account(server.port)
        await sender.send(PEOPLE[0], options=AT_LEAST_ONCE)
        await server.received(1)
        await sender.stub.CancelRun(sender_pb2.CancelRunRequest(run_id="run"), timeout=5)
        gate.set()
        await sender.until(lambda run: run.counts.in_progress_count == 0)
        assert await sender.states() == {PEOPLE[0]: "UNKNOWN"}
