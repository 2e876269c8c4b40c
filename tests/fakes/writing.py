"""A database with a process that writes for it, and what tests ask about both."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mailer.clock import Clock
from mailer.database import Database, users_lock_path
from mailer.lockfile import LockFile
from tests.fakes import portable_tasks as tasks

HERE = os.getpid()


@asynccontextmanager
async def opened(url: str, clock: Clock, **more: Any) -> AsyncIterator[Database]:
    """Open a database whose process is being started."""
    database = await Database.open(url, clock=clock, portable_modules=[tasks.MODULE], **more)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_with_things(url: str, clock: Clock) -> AsyncIterator[Database]:
    """Open a database that has the table of things, and whose process is at work."""
    async with opened(url, clock) as database:
        await database.write(tasks.create)
        await at_work(database)
        yield database


async def at_work(database: Database) -> int:
    """Return the id of the writer's process once it writes."""
    async with asyncio.timeout(30):
        while (process_id := await database.write(tasks.where)) == os.getpid():
            await asyncio.sleep(0.02)
    assert process_id == database.writer_process_id
    return process_id


async def together(database: Database, *jobs: tuple[Any, ...]) -> list[Any]:
    """Submit jobs in one go, and return what becomes of each."""
    return await asyncio.gather(*(database.write(fn, *args) for fn, *args in jobs), return_exceptions=True)


def is_let_go_of(path: Path) -> bool:
    """Say whether nobody has the database file in use: then whoever restores it does not have to wait."""
    lock = LockFile(users_lock_path(path))
    is_free = lock.acquire()
    lock.release()
    return is_free


def state_of(process_id: int) -> str:
    """Return the letter by which the kernel knows how a process is."""
    return Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]


def is_there(process_id: int) -> bool:
    """Say whether there is a process with that id, be it a zombie."""
    return Path(f"/proc/{process_id}").exists()
