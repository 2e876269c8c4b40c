"""`python -m benchmarks.traffic KIND NAME DATABASE DIARY`: write or read through the layer that the services use.

Until SIGTERM: small transactions one after the other, each with a line in the diary when it is acknowledged. One that
is refused is tried again; its wait is counted from the first try.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from time import monotonic

from sqlalchemy import Connection

from benchmarks.diary import Act, line
from mailer.clock import SystemClock
from mailer.database import Database, DatabaseUnavailable
from mailer.database.engine import driver
from mailer.log import configure

PAUSE_SECONDS = 0.005

_LOG = """
INSERT INTO send_logs (log_key, run_id, account_id, worker, stage, outcome, reply_code, enhanced_code, reply_text,
    description, retry_count, start_time, end_time)
VALUES (?, '', '', ?, '', 'sent', 250, '', '', '', 0, ?, 0)
"""

Attempt = Callable[[int], Awaitable[object]]


async def main(kind: str, name: str, path: Path, diary: Path) -> None:
    """Write or read until told to end."""
    # What is refused is counted; while a restore holds the lock that is nothing to complain about.
    configure(service=name, level="critical", log_format="json")
    database = await Database.open(f"sqlite:///{path}", clock=SystemClock())
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    attempts: dict[str, Attempt] = {
        "writer": lambda number: database.write(_write, name, number),
        "reader": lambda _: database.read(_read),
    }
    await keep_on(attempts[kind], diary, told)
    await database.close()


async def keep_on(attempt: Attempt, diary: Path, told: asyncio.Event) -> None:
    """Do it again and again, and write down how long each took."""
    began, refused, numbers = monotonic(), 0, count()
    number = next(numbers)
    with diary.open("w", encoding="ascii") as pen:
        while not told.is_set():
            try:
                await attempt(number)
            except DatabaseUnavailable:
                refused += 1  # nothing was done: the same again
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            pen.write(line(Act(began, monotonic(), refused)))
            pen.flush()
            await asyncio.sleep(PAUSE_SECONDS)
            began, refused, number = monotonic(), 0, next(numbers)


def _write(connection: Connection, name: str, number: int) -> None:
    key = f"bench-{name}-{number}"
    driver(connection).execute(_LOG, (key, name, number))
    driver(connection).execute("INSERT INTO suppressions VALUES (?, '', 0)", (f"{key}@post.example",))


def _read(connection: Connection) -> None:
    driver(connection).execute("SELECT delivery_key FROM deliveries ORDER BY id LIMIT 1").fetchone()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
