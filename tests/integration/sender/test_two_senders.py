"""Two senders on one database: every message belongs to one of them."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from mailer.v1 import sender_pb2
from tests.fakes.sender_service import sender_service
from tests.fakes.smtp_server import SmtpServer, Until

# More than one sender claims of a run at once.
PEOPLE = sorted(f"p{number:04}@d{number % 7}.example" for number in range(600))
AT_MOST_ONCE = sender_pb2.DeliveryOptions(policy=sender_pb2.DELIVERY_POLICY_AT_MOST_ONCE)


def recipients(server: SmtpServer) -> list[str]:
    return sorted(mail.recipients[0] for mail in server.accepted)


async def test_both_send_and_nobody_gets_two(tmp_path: Path, server: SmtpServer) -> None:
    gate = asyncio.Event()
    server.on("RCPT", [Until(gate), "250 ok"])
    async with sender_service(tmp_path) as one, sender_service(tmp_path) as other:
        await one.add_account(server.port)
        await asyncio.gather(
            *(
                sender.send(*PEOPLE[start : start + 100], options=AT_MOST_ONCE, request_id=f"batch-{start}")
                for start, sender in zip(range(0, 600, 100), [one, other] * 3, strict=True)
            )
        )
        while workers_in(tmp_path, "deliveries") < 2:
            await one.tick()
        gate.set()
        await one.done()
        assert recipients(server) == PEOPLE
        assert workers_in(tmp_path, "send_logs") == 2


def workers_in(folder: Path, table: str) -> int:
    with closing(sqlite3.connect(folder / "mailer.db")) as reader:
        (count,) = reader.execute(f"SELECT count(DISTINCT worker) FROM {table}").fetchone()
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
